//! Which library serves a name, as files come, go and meet.

use super::*;
use crate::plugins::tests::fake::{Functions, generation};

fn offer(number: u64, plugin: &str, file: &str) -> Arc<Generation> {
    generation(number, plugin, file, Functions::default())
}

/// Which generation serves a plugin.
fn serving(registry: &Registry, plugin: &str) -> Result<u64, Unserved> {
    registry.serving(plugin).map(|serving| serving.number)
}

fn opened(generations: &[Arc<Generation>], served: &[(&str, &str)]) -> Registry {
    let registry = Registry::new(BTreeMap::new());
    for generation in generations {
        assert!(registry.add(generation).is_empty());
    }
    let served = served.iter();
    let served = served.map(|(plugin, file)| ((*plugin).to_owned(), PathBuf::from(file)));
    registry.open(&served.collect());
    registry
}

#[test]
fn of_two_libraries_at_a_cold_start_neither_serves() {
    let registry = opened(&[offer(1, "p", "a.so"), offer(2, "p", "b.so")], &[]);
    let files = vec!["a.so".to_owned(), "b.so".to_owned()];
    assert_eq!(serving(&registry, "p"), Err(Unserved::Ambiguous(files)));
    registry.remove(Path::new("/plugins/a.so"));
    assert_eq!(serving(&registry, "p"), Ok(2));
}

#[test]
fn of_two_libraries_after_a_crash_the_one_that_served_serves() {
    let both = [offer(1, "p", "a.so"), offer(2, "p", "b.so")];
    let registry = opened(&both, &[("p", "/plugins/b.so"), ("gone", "/plugins/a.so")]);
    assert_eq!(serving(&registry, "p"), Ok(2));
    assert_eq!(serving(&registry, "gone"), Err(Unserved::Unknown));
}

#[test]
fn the_one_that_serves_stays_and_the_other_takes_over_when_it_goes() {
    let registry = opened(&[offer(1, "p", "a.so")], &[]);
    assert!(registry.add(&offer(2, "p", "b.so")).is_empty());
    assert_eq!(serving(&registry, "p"), Ok(1));
    let changes = registry.remove(Path::new("/plugins/a.so"));
    assert_eq!(changes.len(), 1);
    assert_eq!(serving(&registry, "p"), Ok(2));
}

#[test]
fn a_library_that_offers_another_plugin_now_ends_what_it_offered() {
    let registry = opened(&[offer(1, "old", "a.so"), offer(2, "other", "b.so")], &[]);
    let changes = registry.add(&offer(3, "new", "a.so"));
    let mut changes: Vec<_> = changes
        .iter()
        .map(|change| (&*change.name, change.now.as_ref().map(|now| now.number)))
        .collect();
    changes.sort();
    assert_eq!(changes, [("new", Some(3)), ("old", None)]);
    assert_eq!(serving(&registry, "old"), Err(Unserved::Unknown));
    assert_eq!(registry.add(&offer(4, "old", "c.so")).len(), 1);
    assert_eq!(serving(&registry, "old"), Ok(4));
    assert_eq!(serving(&registry, "other"), Ok(2));
}

#[test]
fn a_file_that_the_configuration_names_and_that_is_not_there_is_named_as_the_cause() {
    let registry = Registry::new([("p".to_owned(), "b.so".to_owned())].into());
    registry.add(&offer(1, "p", "a.so"));
    registry.open(&Default::default());
    let why = Unserved::NotChosen {
        chosen: "b.so".to_owned(),
        offered: vec!["a.so".to_owned()],
    };
    assert_eq!(serving(&registry, "p"), Err(why));
    registry.add(&offer(2, "p", "b.so"));
    assert_eq!(serving(&registry, "p"), Ok(2));
}
