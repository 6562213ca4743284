//! Everything that the kernel side counts: one row for each reason. Nothing
//! is dropped without one of these going up.

macro_rules! counters {
    ($($(#[$doc:meta])* $name:ident = $id:literal, $label:literal, $lost:literal;)*) => {
        /// What the kernel side counts. The number is the index in the
        /// per-CPU array.
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        #[repr(u32)]
        pub enum Counter { $($(#[$doc])* $name = $id,)* }

        impl Counter {
            /// Every counter, in the order of the table.
            pub const ALL: &'static [Self] = &[$(Self::$name,)*];

            /// What people read.
            pub const fn label(self) -> &'static str {
                match self { $(Self::$name => $label,)* }
            }

            /// Whether an event that counts here is lost to the report.
            pub const fn is_loss(self) -> bool {
                match self { $(Self::$name => $lost,)* }
            }
        }
    };
}

counters! {
    /// Event records written to the ring buffer.
    EventsSent = 0, "events sent", false;
    /// Stack records written to the ring buffer.
    StacksSent = 1, "stacks sent", false;
    /// Calls made by another traced function: its own business, no event.
    NestedCalls = 2, "nested calls", false;
    /// The ring buffer was full and an event was dropped.
    RingFull = 3, "events lost: ring buffer full", true;
    /// The ring buffer was full and a stack was not sent; it is sent with its
    /// next event instead.
    StackRingFull = 4, "stacks delayed: ring buffer full", false;
    /// No room for the state of another thread: its events are lost.
    ThreadsFull = 5, "events lost: too many threads", true;
    /// A return without its entry: the call began before the probes were in.
    UnpairedReturns = 6, "returns without entry", false;
    /// A call that never returned (the thread jumped out of it, or the kernel
    /// could not place its return probe).
    AbandonedCalls = 7, "calls without return", true;
    /// `posix_memalign`'s result could not be read: the event is lost.
    ResultUnreadable = 8, "events lost: result unreadable", true;
    /// Stacks cut short at the frame limit.
    StacksTooDeep = 9, "stacks cut at the frame limit", false;
    /// Stacks cut short because the stack memory could not be read.
    StacksUnreadable = 10, "stacks cut: memory unreadable", false;
    /// Stacks cut short because the frame has no unwind information and no
    /// plausible frame pointer.
    StacksNoRule = 11, "stacks cut: no unwind rule", false;
    /// The set of seen stacks was full: a stack may be sent more than once.
    SeenFull = 12, "seen-stack set full", false;
    /// Stacks that needed no walk: the same registers and the same words of
    /// stack were there before.
    WalksRemembered = 13, "walks remembered", false;
    /// No room to remember another sampled block: it was left out.
    SampledFull = 14, "events lost: too many sampled blocks", true;
    /// Before Linux 5.15: it was not known which function was called, in the
    /// first moments of a program.
    CookieUnknown = 17, "events lost: function not known yet", true;
    /// The ring buffer was getting full, and a stack was kept back to leave room
    /// for events; it is sent with its next event instead.
    StacksShed = 16, "stacks delayed: ring buffer filling up", false;
    /// Return addresses that a return probe had replaced by its trampoline's,
    /// and that were found in the kernel's list.
    ReturnsRecovered = 18, "return addresses recovered from pending return probes", false;
    /// Frames of stacks that were not remembered.
    FramesWalked = 19, "frames walked", false;
    /// Of these, frames of the thread's last walk that needed no table.
    FramesFollowed = 20, "frames of the last walk among them", false;
    /// No room for the sum of another stack: what it did is missing.
    SumsFull = 21, "growth lost: too many stacks", true;
    /// Stacks that led through code that the kernel side did not know yet: copied,
    /// for user space to walk on.
    StacksCopied = 22, "stacks copied", false;
    /// Blocks that were left out, by size or by sampling.
    LeftOut = 15, "blocks left out", false;
}

/// Slots in the kernel's counter array: room to grow without a new layout.
pub const COUNTERS: u32 = 32;
