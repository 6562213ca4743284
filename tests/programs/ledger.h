/* What every test program shares: the protocol with the harness and the ledger.
 *
 * Protocol: the program prints READY, waits for a line, works, prints its ledger as one line of JSON and DONE, waits for a
 * line, ends. Nothing in here allocates, so the ledger holds exactly what the program's own functions asked for: output
 * goes through write(2), input through read(2), and the rows are a static array. */
#pragma once
#ifndef _GNU_SOURCE
#define _GNU_SOURCE
#endif
#include <errno.h>
#include <pthread.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#define SITE __attribute__((noinline, noclone, unused)) static
#define UNUSED __attribute__((unused)) static

/* One allocation site: the function that calls the allocator. `functions` are the names under which a tracer may report
 * the call, '|' between them (names that share an address in libc cannot be told apart). */
struct ledger_row {
    const char *site, *functions, *kind;
    size_t bytes, count;
};
static struct ledger_row ledger_rows[64];
static size_t ledger_used;
static pthread_mutex_t ledger_lock = PTHREAD_MUTEX_INITIALIZER;
/* Not every program counts these; they are only printed where they are not zero. */
static size_t ledger_allocated_bytes, ledger_allocated_count, ledger_unmatched_frees, ledger_moved, ledger_in_place;
/* Keeps leaked blocks reachable and the compiler from removing calls. */
static void *volatile ledger_sink;

UNUSED void complain(const char *what) {
    const char *parts[] = {what, "\n"};
    for (int i = 0; i < 2; i++)
        if (write(2, parts[i], strlen(parts[i])) < 0) break;
    _exit(99);
}

/* The program's own truth is checked too: a call that did not do what the ledger says ends the program. */
#define MUST(condition) do { if (!(condition)) complain("MUST(" #condition ") at " __FILE__); } while (0)

/* `site` of this row now has `bytes` and `count` more outstanding. */
UNUSED void ledger_add(const char *site, const char *functions, const char *kind, size_t bytes, size_t count) {
    pthread_mutex_lock(&ledger_lock);
    size_t i = 0;
    while (i < ledger_used && strcmp(ledger_rows[i].site, site) != 0) i++;
    MUST(i < sizeof ledger_rows / sizeof *ledger_rows);
    if (i == ledger_used) {
        ledger_rows[i].site = site;
        ledger_rows[i].functions = functions;
        ledger_rows[i].kind = kind;
        ledger_used++;
    }
    ledger_rows[i].bytes += bytes;
    ledger_rows[i].count += count;
    pthread_mutex_unlock(&ledger_lock);
}

UNUSED void leaked(const char *site, const char *functions, void *block, size_t bytes) {
    MUST(block != NULL);
    ledger_sink = block;
    ledger_add(site, functions, "heap", bytes, 1);
}

UNUSED void leaked_pages(const char *site, const char *functions, void *at, size_t bytes) {
    unsigned char resident[64];
    MUST(at != MAP_FAILED);
    MUST(bytes / 4096 <= sizeof resident);
    MUST(mincore(at, bytes, resident) == 0); /* ENOMEM where a page is not mapped */
    ledger_sink = at;
    ledger_add(site, functions, "mapping", bytes, 1);
}

UNUSED void say(const char *format, ...) {
    char line[512];
    va_list arguments;
    va_start(arguments, format);
    int length = vsnprintf(line, sizeof line, format, arguments);
    va_end(arguments);
    MUST(length >= 0 && (size_t)length < sizeof line);
    for (int done = 0; done < length;) {
        ssize_t n = write(1, line + done, (size_t)(length - done));
        if (n < 0 && errno == EINTR) continue;
        if (n <= 0) _exit(98);
        done += (int)n;
    }
}

/* Ends the program when the harness is gone. */
UNUSED void wait_for_line(void) {
    char c = 0;
    while (c != '\n') {
        ssize_t n = read(0, &c, 1);
        if (n < 0 && errno == EINTR) continue;
        if (n <= 0) _exit(97);
    }
}

UNUSED void ready(void) {
    say("READY\n");
    wait_for_line();
}

UNUSED void print_ledger(void) {
    size_t bytes = 0, count = 0;
    for (size_t i = 0; i < ledger_used; i++) {
        bytes += ledger_rows[i].bytes;
        count += ledger_rows[i].count;
    }
    say("{\"pid\":%d,\"outstanding_bytes\":%zu,\"outstanding_count\":%zu", getpid(), bytes, count);
    say(",\"allocated_bytes\":%zu,\"allocated_count\":%zu,\"unmatched_frees\":%zu,\"moved\":%zu,\"in_place\":%zu,\"rows\":[",
        ledger_allocated_bytes, ledger_allocated_count, ledger_unmatched_frees, ledger_moved, ledger_in_place);
    for (size_t i = 0; i < ledger_used; i++)
        say("%s{\"site\":\"%s\",\"functions\":\"%s\",\"kind\":\"%s\",\"bytes\":%zu,\"count\":%zu}", i ? "," : "",
            ledger_rows[i].site, ledger_rows[i].functions, ledger_rows[i].kind, ledger_rows[i].bytes, ledger_rows[i].count);
    say("]}\n");
}

UNUSED void done(void) {
    print_ledger();
    say("DONE\n");
    wait_for_line();
}
