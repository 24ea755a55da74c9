//! Permits of several semaphores at once: all or none.
//!
//! Who waits for the permit of a slow plugin holds none of another's meanwhile, and who runs in one plugin of a chain
//! holds none of the others: a plugin that hangs takes up its own permits only.

use std::cell::RefCell;
use std::sync::Arc;

use tokio::sync::{OwnedSemaphorePermit, Semaphore};

thread_local! {
    /// Of the call on this thread.
    static HELD: RefCell<Vec<OwnedSemaphorePermit>> = const { RefCell::new(Vec::new()) };
}

/// Runs a call on this thread with these permits. They are free again when it returns, if not before.
pub fn holding<T>(held: Vec<OwnedSemaphorePermit>, call: impl FnOnce() -> T) -> T {
    HELD.set(held);
    let returned = call();
    HELD.set(Vec::new());
    returned
}

/// The call on this thread runs in the plugin of `own` from now on: the permits of the others are free.
///
/// It comes back to a plugin whose permit somebody else has taken meanwhile without one: waiting would hold this
/// thread. So of each plugin there may be twice as many calls on threads for a moment.
pub fn keep_only(own: &Arc<Semaphore>) {
    HELD.with_borrow_mut(|held| {
        let is_own = |permit: &OwnedSemaphorePermit| Arc::ptr_eq(permit.semaphore(), own);
        if let [only] = held.as_slice()
            && is_own(only)
        {
            return;
        }
        held.retain(is_own);
        if held.is_empty() {
            held.extend(Arc::clone(own).try_acquire_owned());
        }
    });
}

/// One permit of each, if all are to be had now; else the place of one that is not.
///
/// # Errors
/// The place of the first semaphore without a permit.
pub fn try_all(semaphores: &[Arc<Semaphore>]) -> Result<Vec<OwnedSemaphorePermit>, usize> {
    try_rest(semaphores, None)
}

/// One permit of each, in the order of asking for the one that was missing. `None`: one of them is closed.
pub async fn all(semaphores: &[Arc<Semaphore>]) -> Option<Vec<OwnedSemaphorePermit>> {
    let mut tried = try_all(semaphores);
    loop {
        let missing = match tried {
            Ok(held) => return Some(held),
            Err(missing) => missing,
        };
        let permit = Arc::clone(semaphores.get(missing)?).acquire_owned().await;
        tried = try_rest(semaphores, Some((missing, permit.ok()?)));
    }
}

/// As [`try_all`], with the permit of one place in hand.
fn try_rest(
    semaphores: &[Arc<Semaphore>],
    in_hand: Option<(usize, OwnedSemaphorePermit)>,
) -> Result<Vec<OwnedSemaphorePermit>, usize> {
    let (have, permit) = in_hand.unzip();
    let mut held = Vec::with_capacity(semaphores.len());
    held.extend(permit);
    for (place, semaphore) in semaphores.iter().enumerate() {
        if have != Some(place) {
            let permit = Arc::clone(semaphore).try_acquire_owned();
            held.push(permit.map_err(|_| place)?);
        }
    }
    Ok(held)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_waits_for_one_permit_holds_no_other() {
        let (free, taken) = (Arc::new(Semaphore::new(1)), Arc::new(Semaphore::new(1)));
        let both = [Arc::clone(&free), Arc::clone(&taken)];
        let runtime = tokio::runtime::Builder::new_current_thread()
            .build()
            .unwrap();
        runtime.block_on(async {
            let other = Arc::clone(&taken).acquire_owned().await.unwrap();
            assert_eq!(try_all(&both).unwrap_err(), 1);
            let waiting = tokio::spawn(async move { all(&both).await });
            tokio::task::yield_now().await;
            assert_eq!(free.available_permits(), 1);
            drop(other);
            let held = waiting.await.unwrap().unwrap();
            assert_eq!((held.len(), free.available_permits()), (2, 0));
        });
    }

    #[test]
    fn who_runs_in_one_plugin_holds_the_permit_of_no_other() {
        let (one, other) = (Arc::new(Semaphore::new(1)), Arc::new(Semaphore::new(1)));
        let free = || (one.available_permits(), other.available_permits());
        let held = try_all(&[Arc::clone(&one), Arc::clone(&other)]).unwrap();
        holding(held, || {
            assert_eq!(free(), (0, 0), "before it runs");
            keep_only(&one);
            assert_eq!(free(), (0, 1));
            keep_only(&other);
            assert_eq!(free(), (1, 0));
            let taken = Arc::clone(&one).try_acquire_owned().unwrap();
            keep_only(&one);
            assert_eq!(free(), (0, 1), "it runs without a permit");
            drop(taken);
            assert_eq!(free(), (1, 1));
        });
        assert_eq!(free(), (1, 1));
    }

    #[test]
    fn a_closed_semaphore_is_not_waited_for() {
        let closed = Arc::new(Semaphore::new(0));
        closed.close();
        let runtime = tokio::runtime::Builder::new_current_thread()
            .build()
            .unwrap();
        assert!(runtime.block_on(all(&[closed])).is_none());
    }
}
