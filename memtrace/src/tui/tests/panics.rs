//! A panic must not leave a terminal behind that nobody can type into.
use std::{
    env,
    process::{Command, Stdio},
};

use crate::{
    report::Style,
    tui::{model::Model, screen::Screen},
};

/// What the panic says.
const WORDS: &str = "a bug that is not there";

/// Set where the test runs itself, on a terminal of its own.
const ON_TERMINAL: &str = "MEMTRACE_TEST_ON_TERMINAL";

fn panic_while_drawing() {
    let mut screen = Screen::enter(false).expect("a terminal");
    let mut model = Model::new(Style::default());
    screen.draw(&mut model).expect("a drawing");
    panic!("{WORDS}");
}

#[test]
fn a_panic_gives_the_terminal_back() {
    if env::var_os(ON_TERMINAL).is_some() {
        return panic_while_drawing();
    }
    let program = env::current_exe().expect("this program");
    let test = "--exact --nocapture tui::tests::panics::a_panic_gives_the_terminal_back";
    let command = format!("stty -g; '{}' {test}; stty -g", program.display());
    let output = Command::new("script")
        .args(["--quiet", "--command", &command, "/dev/null"])
        .env("TERM", "xterm")
        .env(ON_TERMINAL, "1")
        .stdin(Stdio::null())
        .output()
        .expect("script, of bsdutils");
    let text = String::from_utf8_lossy(&output.stdout);
    let settings: Vec<&str> = text
        .lines()
        .filter(|line| line.split(':').count() > 20)
        .map(|line| line.rsplit('\u{1b}').next().unwrap_or(line))
        .collect();
    let [before, after] = settings[..] else {
        panic!("stty says nothing: {text:?}");
    };
    assert_eq!(before, after, "{text:?}");
    // Drawn on the other screen, left before the words, and the cursor is there again.
    let at = |what: &str| {
        text.rfind(what)
            .unwrap_or_else(|| panic!("no {what:?} in {text:?}"))
    };
    let (entered, left) = (at("\x1b[?1049h"), text.find("\x1b[?1049l"));
    let left = left.unwrap_or_else(|| panic!("the other screen is never left: {text:?}"));
    assert!(entered < left && left < at(WORDS), "{text:?}");
    assert!(at("\x1b[?25l") < at("\x1b[?25h"), "{text:?}");
}
