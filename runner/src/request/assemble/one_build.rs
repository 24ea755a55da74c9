//! A plugin that stands in a chain more than once runs on one build there: where the newest refuses one of its confs, the
//! others stay with that one on the older build. So a call never meets two builds of a plugin.

use std::sync::Arc;

use super::Assembly;
use super::failing::refused_link;
use crate::plugins::blame::{activity, during};
use crate::plugins::generation::Generation;
use crate::request::chain::{Chain, LinkState};

/// Moves confs to the older build that others of their plugin stay on. `None` after a panic, or at the end of the process.
pub(super) async fn settle(
    assembly: &Arc<Assembly>,
    chain: &Arc<Chain>,
    states: &mut [LinkState],
) -> Option<()> {
    for index in 0..states.len() {
        let oldest = oldest(chain, states, index);
        if let (Some(oldest), Some(own)) = (oldest, build(&states[index]))
            && oldest.number != own.number
        {
            states[index] = configure(assembly, chain, index, oldest).await?;
        }
    }
    Some(())
}

fn build(state: &LinkState) -> Option<&Arc<Generation>> {
    match state {
        LinkState::Ready(prepared) => Some(prepared.generation()),
        LinkState::Failing(_) | LinkState::Unbound => None,
    }
}

/// The oldest build that any conf of this one's plugin stays on.
fn oldest(chain: &Chain, states: &[LinkState], index: usize) -> Option<Arc<Generation>> {
    let confs = &chain.conf.plugins;
    let name = &confs.get(index)?.name;
    let same = confs.iter().zip(states);
    let same = same.filter(|(conf, _)| conf.name == *name);
    let builds = same.filter_map(|(_, state)| build(state));
    builds.min_by_key(|build| build.number).cloned()
}

async fn configure(
    assembly: &Arc<Assembly>,
    chain: &Arc<Chain>,
    index: usize,
    build: Arc<Generation>,
) -> Option<LinkState> {
    let (assembly, chain) = (Arc::clone(assembly), Arc::clone(chain));
    let permit = Arc::clone(&build.configuring).acquire_owned().await;
    let job = move || {
        let _permit = permit;
        let code = || assembly.prepared.get(&build, &chain.conf, index);
        match during(build.number, activity::CONFIGURE, chain.token, code) {
            Ok(prepared) => LinkState::Ready(prepared),
            Err(error) => refused_link(&chain.conf, &build, None, &error),
        }
    };
    tokio::task::spawn_blocking(job).await.ok()
}
