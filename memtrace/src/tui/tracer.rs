//! A session on a thread of its own: the screen never waits for it.
use std::{io, thread, time::Duration};

use tokio::{
    runtime,
    sync::{mpsc::UnboundedSender, oneshot},
    time::{Instant, sleep_until},
};

use super::{
    model::{Update, stacks::News},
    run::Message,
};
use crate::{
    event::ring::Reader,
    live::Filter,
    report::assemble::{self, Choice, Order},
    session::{Options, Session, SessionError, monotonic_ns},
    symbol::{self, Symbolizer},
};

/// Reports are made as often as is asked for, but take at most this part of
/// the time: one in so many.
const SHARE: u32 = 10;

/// What to trace, and how.
#[derive(Clone, Debug)]
pub(super) struct Request {
    pub(super) options: Options,
    pub(super) filter: Filter,
    pub(super) interval: Duration,
    pub(super) pids: Vec<u32>,
    /// Under which its news come.
    pub(super) number: u64,
}

/// What the end of a trace is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum End {
    /// The last figures.
    Figures,
    /// The end: nobody looks any more.
    Nothing,
}

/// One that runs.
pub(super) struct Tracer {
    stop: Option<oneshot::Sender<End>>,
    thread: Option<thread::JoinHandle<()>>,
}

impl Tracer {
    pub(super) fn start(request: Request, sender: UnboundedSender<Message>) -> io::Result<Self> {
        let (stop, stopped) = oneshot::channel();
        let work = move || {
            let sink = Sink {
                sender,
                number: request.number,
            };
            let news = match trace(&request, stopped, &sink) {
                Ok(()) => News::Ended,
                Err(error) => News::Failed(error.to_string()),
            };
            sink.tell(news);
        };
        let thread = thread::Builder::new()
            .name("trace".to_owned())
            .spawn(work)?;
        Ok(Self {
            stop: Some(stop),
            thread: Some(thread),
        })
    }

    /// Takes the probes out; its last report comes then.
    pub(super) fn stop(&mut self) {
        self.end(End::Figures);
    }

    fn end(&mut self, end: End) {
        if let Some(stop) = self.stop.take() {
            // It has ended already where nobody listens.
            let _ = stop.send(end);
        }
    }
}

impl Drop for Tracer {
    /// Waits until the probes are out: nothing is left behind.
    fn drop(&mut self) {
        self.end(End::Nothing);
        if let Some(thread) = self.thread.take() {
            // Why it panicked has been said.
            let _ = thread.join();
        }
    }
}

struct Sink {
    sender: UnboundedSender<Message>,
    number: u64,
}

impl Sink {
    fn tell(&self, news: News) {
        let update = Update::Trace(self.number, news);
        // Nobody listens where all has ended.
        let _ = self.sender.send(Message::Update(update));
    }
}

fn trace(
    request: &Request,
    stopped: oneshot::Receiver<End>,
    sink: &Sink,
) -> Result<(), SessionError> {
    let runtime = runtime::Builder::new_multi_thread()
        .worker_threads(1)
        .enable_all()
        .build()
        .map_err(|source| SessionError::System {
            what: "start the asynchronous runtime",
            source,
        })?;
    runtime.block_on(async {
        let (mut session, reader) = Session::prepare(request.options.clone(), &request.pids)?;
        session.attach()?;
        sink.tell(News::Began);
        let mut trace = Trace {
            request,
            session,
            reader,
            symbolizer: Symbolizer::new(symbol::Options::default()),
            sink,
        };
        let end = trace.until(stopped).await;
        trace.finish(end).await;
        Ok(())
    })
}

struct Trace<'a> {
    request: &'a Request,
    session: Session,
    reader: Reader,
    symbolizer: Symbolizer,
    sink: &'a Sink,
}

impl Trace<'_> {
    /// Until it is stopped or all processes have ended.
    async fn until(&mut self, mut stopped: oneshot::Receiver<End>) -> End {
        let mut next = Instant::now();
        loop {
            tokio::select! {
                // Events come last, or a busy process would have no reports.
                biased;
                end = &mut stopped => return end.unwrap_or(End::Nothing),
                () = sleep_until(next) => {
                    if !self.session.any_alive() {
                        return End::Figures;
                    }
                    let begin = Instant::now();
                    self.report(monotonic_ns());
                    next = begin + self.request.interval.max(begin.elapsed() * SHARE);
                }
                batch = self.reader.next() => match batch {
                    Some(batch) => self.session.apply(&batch),
                    None => return End::Figures,
                }
            }
        }
    }

    /// Takes the probes out and tells what was outstanding when that began, if
    /// anybody wants to know.
    async fn finish(&mut self, end: End) {
        if end == End::Nothing {
            self.session.end().1.detach();
            return;
        }
        // Where a thread has panicked, the screen says so.
        if let Ok(now_ns) = self.session.finish(&mut self.reader).await {
            self.report(now_ns);
        }
    }

    fn report(&mut self, now_ns: u64) {
        let choice = Choice {
            filter: self.request.filter,
            order: Order::Bytes,
            top: usize::MAX,
            ended: false,
        };
        let facts = self.session.facts(now_ns);
        let report = assemble::heap(&facts, &choice, &mut self.symbolizer);
        self.sink.tell(News::Report(Box::new(report)));
    }
}
