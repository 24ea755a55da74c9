//! Compares names, without the call that a comparison of slices is. Never looks at what they name.

/// The bits in which letters of upper and lower case differ.
const CASE: u64 = 0x2020_2020_2020_2020;

/// Whether two names are the same; in upper and lower case, if `any_case`.
#[inline(always)]
pub fn same(one: &[u8], other: &[u8], any_case: bool) -> bool {
    match differences(one, other) {
        Some(bits) if bits & !CASE != 0 => false,
        // Gateway: names come in lower case, and most authors write them so.
        Some(0) if one.len() <= 16 => true,
        Some(_) => same_text(one, other, any_case),
        None => false,
    }
}

#[inline(never)]
fn same_text(one: &[u8], other: &[u8], any_case: bool) -> bool {
    one == other || any_case && one.eq_ignore_ascii_case(other)
}

/// Whether two names are the same, as far as that can be told without calling anything; `None`: ask [`same`].
#[inline(always)]
pub fn same_at_once(one: &[u8], other: &[u8]) -> Option<bool> {
    match differences(one, other) {
        None => Some(false),
        Some(0) if one.len() <= 16 => Some(true),
        Some(bits) if bits & !CASE != 0 => Some(false),
        Some(_) => None,
    }
}

/// The bits in which the ends of two texts of one length differ: of up to 16 bytes that is all of them. `None`: the
/// lengths differ.
#[inline(always)]
fn differences(one: &[u8], other: &[u8]) -> Option<u64> {
    if one.len() != other.len() {
        return None;
    }
    if let (Some(a), Some(b)) = (ends::<8>(one), ends::<8>(other)) {
        let [a, b] = [a, b].map(|ends| ends.map(u64::from_le_bytes));
        return Some((a[0] ^ b[0]) | (a[1] ^ b[1]));
    }
    if let (Some(a), Some(b)) = (ends::<4>(one), ends::<4>(other)) {
        let [a, b] = [a, b].map(|ends| ends.map(u32::from_le_bytes));
        return Some(u64::from((a[0] ^ b[0]) | (a[1] ^ b[1])));
    }
    let bytes = one.iter().zip(other);
    let bits = bytes.fold(0, |bits, (one, other)| bits | (one ^ other));
    Some(u64::from(bits))
}

#[inline(always)]
fn ends<const N: usize>(text: &[u8]) -> Option<[[u8; N]; 2]> {
    Some([*text.first_chunk()?, *text.last_chunk()?])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_compared_byte_by_byte_and_letters_in_any_case_if_so_asked() {
        // One byte each: no letters, letters, and bytes that differ from others as letters do from their capitals.
        let bytes = [
            b'a', b'A', b'z', b'-', b'\r', b'@', b'`', b'[', b'{', b'0', 0x10, 0xe4, 0xc4,
        ];
        for len in 1..40 {
            for at in [0, len / 2, len - 1] {
                for one in bytes {
                    for other in bytes {
                        let [mut a, mut b] = [vec![b'x'; len], vec![b'x'; len]];
                        (a[at], b[at]) = (one, other);
                        let in_any_case = a.eq_ignore_ascii_case(&b);
                        assert_eq!(same(&a, &b, false), a == b, "{a:?} {b:?}");
                        assert_eq!(same(&a, &b, true), in_any_case, "{a:?} {b:?}");
                        match same_at_once(&a, &b) {
                            Some(told) => assert_eq!(told, a == b, "{a:?} {b:?}"),
                            None => assert!(len > 16 || a != b, "{a:?} {b:?}"),
                        }
                    }
                }
            }
        }
    }

    #[test]
    fn names_of_different_lengths_differ() {
        for (one, other) in [
            ("", "a"),
            ("host", "hos"),
            ("abcdefghijklmnopq", "abcdefghijklmnop"),
        ] {
            assert!(!same(one.as_bytes(), other.as_bytes(), true));
            assert_eq!(same_at_once(one.as_bytes(), other.as_bytes()), Some(false));
        }
        assert!(same(b"", b"", false));
    }
}
