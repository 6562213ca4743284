//! The loop: keys, snapshots and ticks in; the screen, traces and files out.
use std::{
    future::Future,
    io::{self, IsTerminal as _},
    path::Path,
    sync::mpsc,
    time::Duration,
};

use ratatui::crossterm::event::{self, Event};
use thiserror::Error;
use tokio::{
    sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel},
    time::MissedTickBehavior,
};

use super::{
    model::{Effect, Model, Tab, Update},
    save::save,
    screen::{self, Screen},
    sources::{self, spawn},
    tracer::{Request, Tracer},
};
use crate::{
    live::Filter,
    meminfo::Roots,
    report::{Style, assemble::Order},
    session,
};

/// What to show, and how.
#[derive(Clone, Debug)]
pub struct Options {
    /// How processes are traced.
    pub session: session::Options,
    /// Which of their allocations count.
    pub filter: Filter,
    /// How stacks are sorted at first.
    pub order: Order,
    /// Between two looks.
    pub interval: Duration,
    /// Processes to trace at once; none: the list of all processes is shown.
    pub pids: Vec<u32>,
    /// How figures look, and whether there are colours.
    pub style: Style,
}

/// Why the live view ended.
#[derive(Debug, Error)]
pub enum TuiError {
    /// There is nothing to draw on.
    #[error(
        "cannot draw a live view: standard output is not a terminal; `memtrace growth --all` and `memtrace -p PID -i 5s` write reports instead"
    )]
    NoTerminal,
    /// The terminal does not do what it is told to.
    #[error("cannot use the terminal: {0}")]
    Terminal(#[from] io::Error),
    /// A thread has panicked, and has said so.
    #[error(
        "a part of memtrace has failed: this is a bug, please report it with what is said above"
    )]
    Broken,
}

/// What wakes the loop.
#[derive(Debug)]
pub(super) enum Message {
    /// A key, or another size.
    Input(Event),
    /// No more keys will come.
    NoInput(io::Error),
    /// Figures.
    Update(Update),
    /// What could not be read.
    Failed(String),
}

/// Shows the live view until the user or `asked` ends it.
///
/// # Errors
/// There is no terminal, or it cannot be used any more.
pub async fn run(options: &Options, asked: impl Future<Output = ()>) -> Result<(), TuiError> {
    if !io::stdout().is_terminal() {
        return Err(TuiError::NoTerminal);
    }
    let (sender, messages) = unbounded_channel();
    let roots = Roots {
        proc: options.session.proc_root.clone(),
        sys: options.session.sys_root.clone(),
    };
    let mut model = Model::new(options.style);
    model.stacks.sort_by(options.order);
    let mut view = Loop {
        ask: sources::watch_memory(roots, sender.clone())?,
        screen: Screen::enter(options.style.color)?,
        model,
        options,
        sender,
        tracer: None,
    };
    view.begin()?;
    view.until(messages, asked).await
}

/// The screen is given back before the tracer is waited for.
struct Loop<'a> {
    screen: Screen,
    model: Model,
    options: &'a Options,
    sender: UnboundedSender<Message>,
    tracer: Option<Tracer>,
    /// Asks for a look at the memory.
    ask: mpsc::Sender<()>,
}

impl Loop<'_> {
    fn begin(&mut self) -> io::Result<()> {
        let Options {
            session,
            interval,
            pids,
            ..
        } = self.options;
        sources::watch_processes(session.proc_root.clone(), *interval, self.sender.clone())?;
        let sender = self.sender.clone();
        spawn("keys", move || read_keys(&sender))?;
        if !pids.is_empty()
            && let Some(effect) = self.model.open(pids)
        {
            self.perform(effect)?;
        }
        Ok(())
    }

    async fn until(
        &mut self,
        mut messages: UnboundedReceiver<Message>,
        asked: impl Future<Output = ()>,
    ) -> Result<(), TuiError> {
        tokio::pin!(asked);
        let mut tick = tokio::time::interval(self.options.interval);
        tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            if screen::has_panicked() {
                return Err(TuiError::Broken);
            }
            self.screen.draw(&mut self.model)?;
            let shown = self.model.tab;
            tokio::select! {
                biased;
                () = &mut asked => return Ok(()),
                Some(message) = messages.recv() => {
                    let mut next = Some(message);
                    // What has come together is drawn at once.
                    while let Some(message) = next {
                        if self.take(message)? {
                            return Ok(());
                        }
                        next = messages.try_recv().ok();
                    }
                }
                _ = tick.tick() => self.look(),
            }
            if self.model.tab != shown {
                self.look();
            }
        }
    }

    /// Only what is shown is looked at: that is not free of charge.
    fn look(&self) {
        if self.model.tab == Tab::Memory {
            // Its thread tells where it died.
            let _ = self.ask.send(());
        }
    }

    /// Returns whether that was the end.
    fn take(&mut self, message: Message) -> Result<bool, TuiError> {
        match message {
            Message::Input(Event::Key(key)) => {
                if let Some(effect) = self.model.key(key) {
                    return Ok(self.perform(effect)?);
                }
            }
            // The next drawing finds the new size.
            Message::Input(_) => {}
            Message::NoInput(error) => return Err(error.into()),
            Message::Update(update) => self.model.take(update),
            Message::Failed(why) => self.model.say_alarm(&why),
        }
        Ok(false)
    }

    fn perform(&mut self, effect: Effect) -> io::Result<bool> {
        match effect {
            Effect::Quit => return Ok(true),
            Effect::Trace(pids, number) => self.trace(pids, number)?,
            Effect::EndTrace => {
                if let Some(tracer) = &mut self.tracer {
                    tracer.stop();
                }
            }
            Effect::Save => self.save(),
            Effect::Suspend => self.screen.suspend()?,
            Effect::Redraw => self.screen.forget()?,
        }
        Ok(false)
    }

    fn trace(&mut self, pids: Vec<u32>, number: u64) -> io::Result<()> {
        // Whoever waits for its end must not be the screen.
        if let Some(before) = self.tracer.take() {
            spawn("end", move || drop(before))?;
        }
        let request = Request {
            options: self.options.session.clone(),
            filter: self.options.filter,
            interval: self.options.interval,
            pids,
            number,
        };
        self.tracer = Some(Tracer::start(request, self.sender.clone())?);
        Ok(())
    }

    fn save(&mut self) {
        let Some((about, document)) = self.model.document() else {
            self.model.say("there is nothing to save yet");
            return;
        };
        let time = jiff::Zoned::now().strftime("%Y%m%d-%H%M%S").to_string();
        match save(Path::new("."), &about, &time, &document) {
            Ok(path) => {
                let path = path.strip_prefix(".").unwrap_or(&path);
                self.model.say(&format!("saved {}", path.display()));
            }
            Err(error) => self.model.say_alarm(&format!(
                "cannot save a report in this directory: {error}; start memtrace in one that you may write to"
            )),
        }
    }
}

fn read_keys(sender: &UnboundedSender<Message>) {
    loop {
        let (message, is_last) = match event::read() {
            Ok(event) => (Message::Input(event), false),
            Err(error) => (Message::NoInput(error), true),
        };
        if sender.send(message).is_err() || is_last {
            return;
        }
    }
}
