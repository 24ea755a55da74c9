//! The border between the request side and whoever assigns conf tokens and remembers, for the next worker, what confs are
//! served by. Never parses a conf.

/// Assigns conf tokens: the supervisor does, so that they outlive a worker.
pub trait AssignToken: Send + Sync + 'static {
    /// The token of the configuration in this PREPARE_CONF payload: never 0, the same for the same
    /// configuration, and never another configuration's.
    ///
    /// Called from any thread, from many at once; blocks for a round trip between two processes, at most 1 s.
    ///
    /// # Errors
    /// One sentence that says why there is no token: payload unreadable, too many tokens, no answer.
    fn assign(&self, payload: &[u8]) -> Result<u32, String>;

    /// Says that nothing has used this token for so long that the gateway cannot hold it any more.
    fn forget(&self, token: u32);

    /// Says on which older builds the plugins of a chain (by the digest of its confs) stay from now on, as newer ones have
    /// refused their confs; none: on none any more. Called from any thread; does not wait for an answer.
    fn stays(&self, conf: &[u8; 32], on: &[Stay]) {
        let _ = (conf, on);
    }
}

/// A plugin of a chain that stays on an older build.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct Stay {
    /// Its place in the chain.
    pub index: usize,
    /// The build.
    pub generation: u64,
}
