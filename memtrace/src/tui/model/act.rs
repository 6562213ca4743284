//! What keys do to the model.
use ratatui::crossterm::event::KeyEvent;

use super::{
    Effect, Mode, Model, Tab,
    scroll::Scroll,
    stacks::{Page, State},
    table::Row as _,
};
use crate::tui::{
    keys::{self, Action, Edit, Move},
    views,
};

impl Model {
    /// Takes a key in.
    pub fn key(&mut self, event: KeyEvent) -> Option<Effect> {
        if self.mode == Mode::Typing {
            return keys::edit(event).and_then(|edit| self.edit(edit));
        }
        let action = keys::action(event)?;
        self.status = None;
        if self.mode == Mode::Help {
            return self.in_help(action);
        }
        self.act(action)
    }

    fn in_help(&mut self, action: Action) -> Option<Effect> {
        match action {
            Action::Move(way) => {
                let (lines, page) = (views::help_lines().len(), self.page());
                self.help.go(way, lines, page);
                None
            }
            Action::Quit | Action::Suspend | Action::Redraw => self.act(action),
            _ => {
                self.mode = Mode::Command;
                None
            }
        }
    }

    fn edit(&mut self, edit: Edit) -> Option<Effect> {
        let filter = self.filter_mut();
        match edit {
            Edit::Insert(letter) => filter.push(letter),
            Edit::Delete => drop(filter.pop()),
            Edit::Clear => filter.clear(),
            Edit::Accept => self.mode = Mode::Command,
            Edit::Cancel => {
                filter.clear();
                self.mode = Mode::Command;
            }
            Edit::Quit => return Some(Effect::Quit),
        }
        None
    }

    fn act(&mut self, action: Action) -> Option<Effect> {
        match action {
            Action::Quit => return Some(Effect::Quit),
            Action::Suspend => return Some(Effect::Suspend),
            Action::Redraw => return Some(Effect::Redraw),
            Action::Save => return Some(Effect::Save),
            Action::Help => self.mode = Mode::Help,
            Action::Open => return self.enter(),
            Action::Back => self.back(),
            Action::Move(way) => self.go(way),
            Action::Tab(index) => self.show(index),
            Action::NextTab => self.show(self.tab_index() + 1),
            Action::PreviousTab => self.show(self.tab_index() + Tab::ALL.len() - 1),
            Action::Filter => self.begin_filter(),
            Action::SortNext => self.sort(true),
            Action::SortPrevious => self.sort(false),
            Action::Invert => self.invert(),
            Action::Pause => self.pause(),
            Action::Mark => self.mark(),
            Action::Unmark => self.unmark(),
            Action::Text => self.as_text(),
            Action::EndTrace => return self.end_trace(),
        }
        None
    }

    fn enter(&mut self) -> Option<Effect> {
        match (self.tab, self.stacks.page) {
            (Tab::Processes, _) => {
                let pid = self.processes.table.selected()?.process.pid;
                self.open(&[pid])
            }
            (Tab::Stacks, Page::List) => {
                let key = self.stacks.table.selected()?.key();
                self.stacks.page = Page::Stack(key);
                self.stacks.scroll = Scroll::default();
                None
            }
            _ => None,
        }
    }

    fn back(&mut self) {
        if self.tab == Tab::Stacks && self.stacks.page != Page::List {
            self.stacks.page = Page::List;
        } else if !self.filter().is_empty() {
            self.filter_mut().clear();
        } else if self.tab == Tab::Stacks {
            self.tab = Tab::Processes;
        }
    }

    fn tab_index(&self) -> usize {
        let mut tabs = Tab::ALL.iter();
        tabs.position(|tab| *tab == self.tab).unwrap_or(0)
    }

    fn show(&mut self, index: usize) {
        let tab = Tab::ALL.get(index % Tab::ALL.len());
        self.tab = tab.copied().unwrap_or(self.tab);
    }

    fn begin_filter(&mut self) {
        // A single stack has nothing to filter.
        if self.tab == Tab::Stacks {
            self.stacks.page = Page::List;
        }
        self.mode = Mode::Typing;
    }

    fn go(&mut self, way: Move) {
        let page = self.page();
        match (self.tab, self.stacks.page) {
            (Tab::Processes, _) => self.processes.table.go(way, page),
            (Tab::Stacks, Page::List) => self.stacks.table.go(way, page),
            (Tab::Stacks, _) => {
                let lines = views::lines(self).len();
                self.stacks.scroll.go(way, lines, page);
            }
            (Tab::Memory, _) => {
                let lines = views::lines(self).len();
                self.memory.scroll.go(way, lines, page);
            }
        }
    }

    fn sort(&mut self, forward: bool) {
        match self.tab {
            Tab::Processes => self.processes.table.sort_by_neighbour(forward),
            Tab::Stacks => self.stacks.table.sort_by_neighbour(forward),
            Tab::Memory => self.say("the sheet has one order"),
        }
    }

    fn invert(&mut self) {
        match self.tab {
            Tab::Processes => self.processes.table.inverted ^= true,
            Tab::Stacks => self.stacks.table.inverted ^= true,
            Tab::Memory => self.say("the sheet has one order"),
        }
    }

    fn mark(&mut self) {
        match self.tab {
            Tab::Processes => self.processes.mark(),
            Tab::Stacks => self.stacks.mark(),
            Tab::Memory => self.memory.mark(),
        }
    }

    fn unmark(&mut self) {
        match self.tab {
            Tab::Processes => self.processes.unmark(),
            Tab::Stacks => self.stacks.unmark(),
            Tab::Memory => self.memory.unmark(),
        }
    }

    fn pause(&mut self) {
        self.paused = !self.paused;
        if let Some(report) = self.waiting.take_if(|_| !self.paused) {
            self.stacks.take(*report);
        }
    }

    fn as_text(&mut self) {
        if self.tab != Tab::Stacks || self.stacks.report.is_none() {
            return self.say("that is for the stacks of a traced process");
        }
        self.stacks.page = match self.stacks.page {
            Page::Text => Page::List,
            Page::List | Page::Stack(_) => Page::Text,
        };
        self.stacks.scroll = Scroll::default();
    }

    fn end_trace(&mut self) -> Option<Effect> {
        if !matches!(self.stacks.state, State::Starting | State::Tracing) {
            self.say("no process is being traced");
            return None;
        }
        self.stacks.state = State::Ending;
        Some(Effect::EndTrace)
    }
}
