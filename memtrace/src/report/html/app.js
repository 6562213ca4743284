// Reads the data and puts the page together.

function unpack(data) {
  const { strings } = data;
  const names = new Map(data.processes.map((process) => [process.pid, process.comm]));
  const frames = data.frames.map(([name, module, file, line, inlined]) => {
    const source = file ? `${strings[file]}${line ? `:${line}` : ""}` : "";
    const place = source || (module ? `[${base(strings[module])}]` : "");
    const brief = source ? base(source) : place;
    const text = `${strings[name]} ${place} ${strings[module]}`.toLowerCase();
    return { name: strings[name], module: strings[module], place, brief, text, inlined: inlined === 1 };
  });
  const stacks = data.stacks.map((row, index) => {
    const [pid, mapping, by, size, blocks, allocated, calls, oldest, newest, truncated, path] = row;
    const list = path.map((number) => frames[number]);
    const comm = names.get(pid) ?? "?";
    const stack = {
      index, pid, comm, bytes: size, count: blocks, allocated, oldest, newest,
      process: `${comm} (${pid})`,
      by: `${strings[by]}${mapping ? " (mapping)" : ""}`,
      freed: calls > 0 ? Math.max(0, calls - blocks) / calls : 0,
      truncated: truncated === 1,
      frames: list,
      site: list.length > 0 ? `${list[0].name}  ${list[0].brief}` : "(no stack)",
    };
    stack.text = `${stack.process} ${stack.by}`.toLowerCase();
    return stack;
  });
  return { ...data, stacks };
}

function heading(report) {
  const [first, ...others] = report.processes;
  const one = (process) => `${process.comm} (pid ${process.pid}${process.exited ? ", has exited" : ""})`;
  byId("subject").textContent = !first ? "No process" : others.length === 0 ? one(first) : `${report.processes.length} processes: ${report.processes.map(one).join(", ")}`;
  const reasons = [];
  if (report.lost_events > 0) reasons.push(`${count(report.lost_events)} events were lost, so freed blocks may count as outstanding and allocated ones be missing`);
  if (report.sample_bytes > 0) reasons.push(`sampled, one allocation for every ${bytes(report.sample_bytes)} on average, so all figures are estimates`);
  if (!report.exact && reasons.length === 0) reasons.push("see the notes at the end");
  const exactness = byId("exactness");
  exactness.textContent = reasons.length === 0 ? "Exact: every allocation was seen." : `NOT EXACT: ${reasons.join("; ")}.`;
  exactness.className = reasons.length === 0 ? "" : "alarm";
  const { totals } = report;
  const cards = [
    ["Outstanding", bytes(totals.outstanding_bytes), `${count(totals.outstanding_count)} blocks`],
    ["Allocated", bytes(totals.allocated_bytes), `${count(totals.allocated_count)} blocks`],
    ["Freed", bytes(totals.freed_bytes), `${count(totals.freed_count)} blocks`],
    ["Traced for", time(report.duration_ns), ""],
  ];
  byId("totals").replaceChildren(...cards.map(([name, value, more]) =>
    element("div", {}, element("dt", {}, name), element("dd", {}, `${value} `, element("small", {}, more)))));
}

function environment(report) {
  const known = report.environment;
  const rows = [];
  if (known) {
    const began = new Date(known.began_unix_ns / 1e6);
    rows.push(
      ["Began", Number.isFinite(began.getTime()) && known.began_unix_ns > 0 ? began.toISOString() : "not recorded"],
      ["memtrace", known.memtrace], ["Kernel", `Linux ${known.kernel} (${known.architecture})`],
      ["Probes", known.mechanism ?? "not recorded"],
    );
  }
  rows.push(
    ["Lost events", count(report.lost_events)],
    ["Sampling", report.sample_bytes > 0 ? `one allocation for every ${bytes(report.sample_bytes)} on average` : "none: every allocation"],
    ["Frees of older blocks", count(report.totals.unmatched_frees)],
  );
  for (const process of report.processes) {
    rows.push([`Process ${process.pid}`, [process.exe || process.comm, ...(process.allocators ?? [])].join("; ")]);
  }
  byId("environment").replaceChildren(...rows.flatMap(([name, value]) => [element("dt", {}, name), element("dd", {}, value)]));
  byId("notes").replaceChildren(...report.notes.map((note) => element("li", {}, note)));
}

function start() {
  const report = unpack(JSON.parse(byId("data").textContent));
  heading(report);
  environment(report);
  timeline(byId("timeline"), report);
  histograms(report, 0);
  const flame = new Flame(byId("flame"), report, {
    details: (text) => (byId("details").textContent = text),
    matched: (text) => (byId("matched").textContent = text),
    zoomed: (is) => (byId("reset").disabled = !is),
  });
  const table = new Table(byId("stacks"), report);
  const [metric, direction, search, filter] = ["metric", "direction", "search", "filter"].map(byId);
  metric.addEventListener("click", () => {
    const next = 1 - flame.metric;
    flame.measure(next);
    histograms(report, next);
    metric.textContent = ["Bytes", "Count"][next];
    metric.setAttribute("aria-pressed", String(next === 1));
  });
  direction.addEventListener("click", () => {
    flame.turn();
    direction.textContent = flame.flame ? "Flame" : "Icicle";
    direction.setAttribute("aria-pressed", String(flame.flame));
  });
  byId("reset").addEventListener("click", () => flame.zoom(flame.root));
  search.addEventListener("input", () => flame.search(search.value));
  filter.addEventListener("input", () => table.filter(filter.value));
  byId("more").addEventListener("click", () => table.more());
  document.addEventListener("keydown", (event) => {
    const typing = event.target instanceof HTMLInputElement;
    if (event.key === "Escape" && !typing) flame.zoom(flame.root);
    if (event.key === "/" && !typing) {
      event.preventDefault();
      search.focus();
    }
  });
}

start();
