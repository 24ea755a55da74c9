//! Says when one event held up the main loop: everything else, `status` and conf tokens included, waits for it. Only a
//! disk, /proc or a machine without any CPU to spare can be the cause.

use std::time::{Duration, Instant};

use super::{Event, WorkerEvent};

/// Beyond that, somebody notices.
const LONG: Duration = Duration::from_millis(250);

/// One event that is being dealt with.
pub(super) struct HoldUp {
    what: &'static str,
    since: Instant,
}

impl HoldUp {
    pub(super) fn watch(event: &Event) -> Self {
        Self {
            what: name(event),
            since: Instant::now(),
        }
    }

    /// It was dealt with.
    pub(super) fn over(self) {
        let took = self.since.elapsed();
        if took > LONG {
            let hint = "see whether the disk of state.dir or the CPU is overloaded";
            tracing::warn!(
                hint,
                took_ms = took.as_millis() as u64,
                "the supervisor was held up by one event: {}",
                self.what
            );
        }
    }
}

fn name(event: &Event) -> &'static str {
    match event {
        Event::Asked(_) => "a signal",
        Event::ParentGone => "the end of the gateway",
        Event::Scanned(_) => "a look at the plugins folder",
        Event::Staged(_) => "a copied library",
        Event::Recalled(_) => "a last good copy",
        Event::Probed(_) => "a probed library",
        Event::BindingsChanged => "changed bindings",
        Event::Worker(_, WorkerEvent::Ended) => "the end of a worker",
        Event::Worker(..) => "a worker's message",
        Event::Question(..) => "a question on the control socket",
        Event::Successor(_) => "the answer of another runner",
        Event::Timer(_) => "a timer",
    }
}
