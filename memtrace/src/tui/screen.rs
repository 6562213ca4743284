//! The terminal: taken over, and given back whatever happens.
use std::{
    io::{self, stdout},
    panic,
    sync::atomic::{AtomicBool, Ordering},
};

use log::LevelFilter;
use nix::sys::signal::{Signal, raise};
use ratatui::{
    DefaultTerminal,
    crossterm::{
        execute,
        style::force_color_output,
        terminal::{EnterAlternateScreen, enable_raw_mode},
    },
};

use super::{model::Model, views};

/// Whether any thread has panicked: the terminal has been given back then.
static PANICKED: AtomicBool = AtomicBool::new(false);

/// Whether a panic has given the terminal back, in whichever thread.
pub(super) fn has_panicked() -> bool {
    PANICKED.load(Ordering::Relaxed)
}

/// The terminal, as long as it is ours.
///
/// It is given back when this is dropped; and before a panic says what went
/// wrong, in whichever thread.
pub(super) struct Screen {
    terminal: DefaultTerminal,
    /// What is logged would be written across the screen.
    level: LevelFilter,
}

impl Screen {
    pub(super) fn enter(color: bool) -> io::Result<Self> {
        // Whether there are colours was decided before, by the same rules.
        force_color_output(color);
        let hook = panic::take_hook();
        panic::set_hook(Box::new(move |panic| {
            PANICKED.store(true, Ordering::Relaxed);
            hook(panic);
        }));
        let terminal = ratatui::try_init().inspect_err(|_| {
            // It may have got half-way.
            let _ = ratatui::try_restore();
        })?;
        let level = log::max_level();
        log::set_max_level(LevelFilter::Off);
        Ok(Self { terminal, level })
    }

    pub(super) fn draw(&mut self, model: &mut Model) -> io::Result<()> {
        self.terminal.draw(|frame| {
            let area = frame.area();
            model.settle((area.width, area.height));
            views::draw(model, area, frame.buffer_mut());
        })?;
        Ok(())
    }

    /// As if nothing had been drawn yet.
    pub(super) fn forget(&mut self) -> io::Result<()> {
        let area = self.terminal.size()?.into();
        self.terminal.resize(area)
    }

    /// Gives the terminal back and stops this process until the shell lets it
    /// go on.
    pub(super) fn suspend(&mut self) -> io::Result<()> {
        ratatui::try_restore()?;
        self.terminal.show_cursor()?;
        raise(Signal::SIGTSTP)?;
        enable_raw_mode()?;
        execute!(stdout(), EnterAlternateScreen)?;
        self.terminal.hide_cursor()?;
        self.forget()
    }
}

impl Drop for Screen {
    fn drop(&mut self) {
        // A terminal that is gone needs nothing.
        let _ = ratatui::try_restore();
        let _ = self.terminal.show_cursor();
        log::set_max_level(self.level);
    }
}
