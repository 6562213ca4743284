//! What the live view knows and shows: snapshots and keys in, wishes out. No
//! I/O, no clock.
mod act;
mod baseline;
pub mod memory;
pub mod processes;
pub mod scroll;
mod stack_row;
pub mod stacks;
pub mod table;

use ratatui::text::Line;

use super::views;
use crate::report::{Style, heap::HeapReport, json, name::printable};
use memory::Memory;
use processes::Processes;
use scroll::Scroll;
use stacks::{News, Page, Stacks, State};

/// What comes in.
#[derive(Debug)]
pub enum Update {
    /// A look at all processes.
    Processes(Box<processes::Look>),
    /// A look at the machine, or why there is none.
    Memory(Result<Box<memory::Look>, String>),
    /// News of the trace with this number.
    Trace(u64, News),
}

/// What is to be done outside.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Effect {
    /// End.
    Quit,
    /// Trace these processes and no others, under this number.
    Trace(Vec<u32>, u64),
    /// Take the probes out.
    EndTrace,
    /// Write [`Model::document`] into a file.
    Save,
    /// Give the terminal back for a while.
    Suspend,
    /// Draw everything anew.
    Redraw,
}

/// The tabs, in their order. One more is a row here, in `views::VIEWS` and in
/// the table of keys.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Tab {
    /// All processes.
    Processes,
    /// What is outstanding in those that are traced.
    Stacks,
    /// The machine.
    Memory,
}

impl Tab {
    /// All of them.
    pub const ALL: &'static [Self] = &[Self::Processes, Self::Stacks, Self::Memory];

    /// Its name.
    pub fn title(self) -> &'static str {
        match self {
            Self::Processes => "Processes",
            Self::Stacks => "Stacks",
            Self::Memory => "Memory",
        }
    }
}

/// What keys are for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    /// Commands.
    Command,
    /// The text that rows must contain.
    Typing,
    /// Going through the help.
    Help,
}

/// What there is to say about the last key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Status {
    /// One line.
    pub text: String,
    /// Whether something went wrong.
    pub alarm: bool,
}

/// Everything.
pub struct Model {
    /// How figures look, and whether there are colours.
    pub style: Style,
    /// What is shown.
    pub tab: Tab,
    /// What keys are for.
    pub mode: Mode,
    /// Whether new figures wait.
    pub paused: bool,
    /// About the last key.
    pub status: Option<Status>,
    /// The tab.
    pub processes: Processes,
    /// The tab.
    pub stacks: Stacks,
    /// The tab.
    pub memory: Memory,
    /// Where the help is looked at.
    pub help: Scroll,
    /// Of the terminal.
    pub size: (u16, u16),
    /// The body of this tab as text, empty where it is a list: as it fitted last.
    pub lines: Vec<Line<'static>>,
    /// The number of the latest trace.
    trace: u64,
    /// Its latest report, while new figures wait: there may be none after it.
    waiting: Option<Box<HeapReport>>,
}

impl Model {
    /// Without anything to show yet.
    pub fn new(style: Style) -> Self {
        Self {
            style,
            tab: Tab::Processes,
            mode: Mode::Command,
            paused: false,
            status: None,
            processes: Processes::default(),
            stacks: Stacks::default(),
            memory: Memory::default(),
            help: Scroll::default(),
            size: (0, 0),
            lines: Vec::new(),
            trace: 0,
            waiting: None,
        }
    }

    /// Shows the stacks of these processes, which are to be traced.
    pub fn open(&mut self, pids: &[u32]) -> Option<Effect> {
        self.tab = Tab::Stacks;
        if self.stacks.traces(pids) {
            return None;
        }
        self.trace += 1;
        self.waiting = None;
        self.stacks.begin(pids);
        Some(Effect::Trace(pids.to_vec(), self.trace))
    }

    /// Takes news in.
    pub fn take(&mut self, update: Update) {
        match update {
            Update::Processes(look) if !self.paused => self.processes.take(*look),
            Update::Memory(look) if !self.paused => self.memory.take(look),
            Update::Processes(_) | Update::Memory(_) => {}
            // What an earlier one has still had to say.
            Update::Trace(number, _) if number != self.trace => {}
            Update::Trace(_, news) => self.take_news(news),
        }
    }

    fn take_news(&mut self, news: News) {
        match news {
            News::Began => self.stacks.state = State::Tracing,
            News::Report(report) if !self.paused => self.stacks.take(*report),
            News::Report(report) => self.waiting = Some(report),
            News::Ended => self.stacks.state = State::Ended,
            News::Failed(why) => {
                self.say_alarm(&why);
                self.stacks.state = State::Failed(why);
            }
        }
    }

    /// Says something about the last key.
    pub fn say(&mut self, text: &str) {
        self.status = Some(Status {
            text: printable(text).into_owned(),
            alarm: false,
        });
    }

    /// Says what went wrong.
    pub fn say_alarm(&mut self, text: &str) {
        self.say(text);
        if let Some(status) = &mut self.status {
            status.alarm = true;
        }
    }

    /// What rows of this tab must contain.
    pub fn filter(&self) -> &str {
        match self.tab {
            Tab::Processes => &self.processes.table.filter,
            Tab::Stacks => &self.stacks.table.filter,
            Tab::Memory => &self.memory.filter,
        }
    }

    fn filter_mut(&mut self) -> &mut String {
        match self.tab {
            Tab::Processes => &mut self.processes.table.filter,
            Tab::Stacks => &mut self.stacks.table.filter,
            Tab::Memory => &mut self.memory.filter,
        }
    }

    /// How long ago the baseline of this tab was set.
    pub fn marked_ago_ns(&self) -> Option<u64> {
        match self.tab {
            Tab::Processes => self.processes.marked_ago_ns(),
            Tab::Stacks if self.stacks.page == Page::List => self.stacks.marked_ago_ns(),
            Tab::Stacks => None,
            Tab::Memory => self.memory.marked_ago_ns(),
        }
    }

    /// Lines of a list or a text that are seen.
    pub fn page(&self) -> usize {
        views::page(self)
    }

    /// Fits everything into a terminal of this size.
    pub fn settle(&mut self, size: (u16, u16)) {
        self.size = size;
        let page = self.page();
        self.processes.table.settle(page);
        self.stacks.table.settle(page);
        let help = views::help_lines().len();
        self.help.settle(help, page);
        self.lines = views::lines(self);
        let lines = self.lines.len();
        match self.tab {
            Tab::Processes => {}
            Tab::Stacks => self.stacks.scroll.settle(lines, page),
            Tab::Memory => self.memory.scroll.settle(lines, page),
        }
    }

    /// What this tab shows as a document in JSON, and what it is about.
    pub fn document(&self) -> Option<(String, Vec<u8>)> {
        let mut out = Vec::new();
        let (about, written) = match self.tab {
            Tab::Processes => {
                let report = self.processes.report.as_ref()?;
                ("growth".to_owned(), json::render(report, &mut out))
            }
            Tab::Stacks => {
                let report = self.stacks.report.as_ref()?;
                let pids: Vec<String> = self.stacks.pids.iter().map(u32::to_string).collect();
                let about = format!("heap-{}", pids.join("-"));
                (about, json::render(report, &mut out))
            }
            Tab::Memory => {
                let report = self.memory.report.as_ref()?;
                ("meminfo".to_owned(), json::render(report, &mut out))
            }
        };
        written.ok()?;
        Some((about, out))
    }
}
