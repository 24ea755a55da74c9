//! What plugins have made of a call, copied out of its arena, so that it lives on after the call. Made only for calls
//! that somebody logs.

use bumpalo::Bump;

use super::overlay::Overlay;
use super::state::{Changes, State};

/// An owned copy of [`Changes`].
#[derive(Debug, Default)]
pub struct Kept {
    maps: [Map; 6],
    private: Vec<(usize, Map)>,
    path: Option<Vec<u8>>,
    body: Option<Vec<u8>>,
    consumer: Option<Vec<u8>>,
    credential: Option<Vec<u8>>,
    status: Option<u16>,
}

/// Names that plugins have changed; no values: removed.
type Map = Vec<(Vec<u8>, Vec<Vec<u8>>)>;

impl Kept {
    /// Copies.
    pub fn of(changes: &Changes<'_>) -> Self {
        let owned = |text: Option<&[u8]>| text.map(<[u8]>::to_vec);
        let private = changes.private.iter().flatten();
        Self {
            maps: maps(changes).map(copy),
            private: private.map(|(link, map)| (*link, copy(map))).collect(),
            path: owned(changes.path),
            body: owned(changes.body),
            consumer: owned(changes.consumer),
            credential: owned(changes.credential),
            status: changes.status,
        }
    }

    /// Puts everything back, into a state of the same message.
    pub fn restore(&self, state: &mut State<'_>) {
        let arena = state.arena;
        let put =
            |text: &Option<Vec<u8>>| text.as_deref().map(|text| &*arena.alloc_slice_copy(text));
        let changes = &mut state.changes;
        for (map, kept) in maps_mut(changes).into_iter().zip(&self.maps) {
            fill(map, kept, arena);
        }
        changes.path = put(&self.path);
        changes.body = put(&self.body);
        changes.consumer = put(&self.consumer);
        changes.credential = put(&self.credential);
        changes.status = self.status;
        for (link, kept) in &self.private {
            state.running.link = *link;
            fill(state.private_mut(), kept, arena);
        }
    }

    /// About how much memory it holds.
    pub fn bytes(&self) -> usize {
        let map = |map: &Map| -> usize {
            let values = |values: &Vec<Vec<u8>>| values.iter().map(Vec::len).sum::<usize>();
            map.iter().map(|(name, all)| name.len() + values(all)).sum()
        };
        let private = self.private.iter().map(|(_, private)| private);
        let maps: usize = self.maps.iter().chain(private).map(map).sum();
        maps + self.body.as_ref().map_or(0, Vec::len)
    }
}

fn maps<'m, 'c>(changes: &'m Changes<'c>) -> [&'m Overlay<'c>; 6] {
    [
        &changes.headers,
        &changes.args,
        &changes.beside,
        &changes.groups,
        &changes.shared,
        &changes.log_fields,
    ]
}

fn maps_mut<'m, 'c>(changes: &'m mut Changes<'c>) -> [&'m mut Overlay<'c>; 6] {
    [
        &mut changes.headers,
        &mut changes.args,
        &mut changes.beside,
        &mut changes.groups,
        &mut changes.shared,
        &mut changes.log_fields,
    ]
}

fn copy(map: &Overlay<'_>) -> Map {
    let changes = map.changes().iter();
    let values = |values: &[Option<&[u8]>]| -> Vec<Vec<u8>> {
        let values = values.iter();
        values
            .map(|value| value.unwrap_or_default().to_vec())
            .collect()
    };
    changes
        .map(|change| (change.name.to_vec(), values(&change.values)))
        .collect()
}

fn fill<'c>(map: &mut Overlay<'c>, kept: &Map, arena: &'c Bump) {
    for (name, values) in kept {
        map.remove(name, arena);
        for value in values {
            map.add(name, arena.alloc_slice_copy(value), arena);
        }
    }
}
