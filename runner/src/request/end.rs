//! How a call ended: facts for the `log` phase and for the call's line in the log.

use std::time::Duration;

use plugin_api::abi::numbers::{action, ended, number, phase};

use super::moment::Moment;
use super::reply::changes_nothing;
use super::run::Verdict;
use super::state::{Message, State};

/// Phases are numbered from 1.
const PHASES: usize = phase::LOG as usize + 1;

/// How a call ended.
#[derive(Debug, Clone, Copy)]
pub struct End {
    /// `numbers::action`: what the gateway was told.
    pub action: u32,
    /// `numbers::ended`: what ended the call.
    pub ended: u32,
    /// Place in the chain of the plugin that ended it.
    pub by: Option<usize>,
    /// 0: not known.
    pub status: u16,
    /// From the frame to the end.
    pub took: Duration,
    /// What all plugins spent in each phase.
    pub times: Times,
}

/// Time by number of phase.
pub type Times = [Duration; PHASES];

impl End {
    /// A call that ran and came to this.
    pub fn of(state: &State<'_>, verdict: Verdict) -> Self {
        let by = Some(state.running.link);
        let (action, ended, by) = match (verdict, &state.answer) {
            (Verdict::Fail, _) => (action::ERROR, ended::FAILURE, by),
            (_, Some(_)) => (action::ANSWER, ended::ANSWER, by),
            _ if changes_nothing(&state.changes) => (action::PASS, ended::CHAIN, None),
            _ => (action::CHANGE, ended::CHAIN, None),
        };
        Self {
            by,
            status: status(state, verdict),
            times: state.times,
            ..Self::new(action, ended)
        }
    }

    /// A call that no plugin has ended.
    pub fn new(action: u32, ended: u32) -> Self {
        Self {
            action,
            ended,
            by: None,
            status: 0,
            took: Duration::ZERO,
            times: Times::default(),
        }
    }

    /// The call was answered with ERROR, as its deadline passed in the plugin at this place.
    pub fn deadline(by: Option<usize>) -> Self {
        Self {
            by,
            status: 503,
            ..Self::new(action::ERROR, ended::DEADLINE)
        }
    }

    /// A call whose own answer went nowhere.
    pub fn unanswered(deadline: Option<Moment>) -> Self {
        if deadline.is_some_and(|deadline| deadline <= Moment::now()) {
            return Self::deadline(None);
        }
        Self::new(action::NOTHING, ended::GATEWAY)
    }

    /// A fact of it (`numbers::number`); 0 when it is none.
    pub fn number(&self, what: u32) -> u64 {
        match what {
            number::ACTION => self.action.into(),
            number::ENDED => self.ended.into(),
            number::REPLY_STATUS => self.status.into(),
            number::TOOK => nanoseconds(self.took),
            phase => {
                let phase = phase.wrapping_sub(number::PHASE_TOOK) as usize;
                self.times.get(phase).copied().map_or(0, nanoseconds)
            }
        }
    }

    /// The name of its action, for the log.
    pub fn action_name(&self) -> &'static str {
        match self.action {
            action::PASS => "pass",
            action::CHANGE => "change",
            action::ANSWER => "answer",
            action::ERROR => "error",
            _ => "nothing",
        }
    }

    /// The name of what ended it, for the log.
    pub fn ended_name(&self) -> &'static str {
        match self.ended {
            ended::CHAIN => "chain",
            ended::ANSWER => "answer",
            ended::FAILURE => "failure",
            ended::DEADLINE => "deadline",
            _ => "gateway",
        }
    }
}

fn status(state: &State<'_>, verdict: Verdict) -> u16 {
    let given = |status: u16, otherwise: u16| if status == 0 { otherwise } else { status };
    match (verdict, &state.answer, state.message) {
        (Verdict::Fail, ..) => 503,
        (_, Some(answer), Message::Request(_)) => given(answer.status, 200),
        (_, Some(answer), Message::Response(call)) => given(answer.status, call.status),
        (_, None, Message::Request(_)) => 0,
        (_, None, Message::Response(call)) => state.changes.status.unwrap_or(call.status),
    }
}

fn nanoseconds(time: Duration) -> u64 {
    u64::try_from(time.as_nanos()).unwrap_or(u64::MAX)
}
