//! User and group names to numbers, from /etc/passwd and /etc/group. Asks no other service: the answer is needed
//! while the gateway waits for the socket.

use std::fs;

use serde::{Deserialize, Serialize};

/// What `nobody` means where /etc/passwd does not say.
const NOBODY: u32 = 65534;

/// Who a process runs as.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Identity {
    /// User id.
    pub uid: u32,
    /// Group id.
    pub gid: u32,
}

/// A name that means nothing on this machine.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum AccountError {
    /// No such user.
    #[error("user `{0}` is not in /etc/passwd; name one that is, or give its number")]
    User(String),
    /// No such group.
    #[error("group `{0}` is not in /etc/group; name one that is, or give its number")]
    Group(String),
}

/// The user of this name or number, with its main group.
///
/// # Errors
/// When the name is unknown.
pub fn user(name: &str) -> Result<Identity, AccountError> {
    user_in(&fs::read_to_string("/etc/passwd").unwrap_or_default(), name)
}

/// The group of this name or number.
///
/// # Errors
/// When the name is unknown.
pub fn group(name: &str) -> Result<u32, AccountError> {
    group_in(&fs::read_to_string("/etc/group").unwrap_or_default(), name)
}

fn user_in(passwd: &str, name: &str) -> Result<Identity, AccountError> {
    let number = name.parse::<u32>().ok();
    let entries = passwd.lines().filter_map(|line| {
        let mut fields = line.split(':');
        let name = fields.next()?;
        let uid = fields.nth(1)?.parse().ok()?;
        let gid = fields.next()?.parse().ok()?;
        Some((name, Identity { uid, gid }))
    });
    for (entry, identity) in entries {
        if entry == name || number == Some(identity.uid) {
            return Ok(identity);
        }
    }
    match (number, name) {
        (Some(uid), _) => Ok(Identity { uid, gid: uid }),
        (None, "nobody") => Ok(Identity {
            uid: NOBODY,
            gid: NOBODY,
        }),
        _ => Err(AccountError::User(name.to_owned())),
    }
}

fn group_in(group: &str, name: &str) -> Result<u32, AccountError> {
    if let Ok(number) = name.parse() {
        return Ok(number);
    }
    let entry = group
        .lines()
        .map(|line| line.split(':').collect::<Vec<_>>())
        .find(|fields| fields.first() == Some(&name));
    entry
        .and_then(|fields| fields.get(2)?.parse().ok())
        .ok_or_else(|| AccountError::Group(name.to_owned()))
}

#[cfg(test)]
mod tests {
    use super::*;

    const PASSWD: &str = "root:x:0:0::/root:/bin/sh\n# a comment\nweb:x:33:44::/:/bin/false\n";

    #[test]
    fn a_user_is_found_by_name_and_by_number() {
        let web = Identity { uid: 33, gid: 44 };
        assert_eq!(user_in(PASSWD, "web"), Ok(web));
        assert_eq!(user_in(PASSWD, "33"), Ok(web));
        assert_eq!(user_in(PASSWD, "12"), Ok(Identity { uid: 12, gid: 12 }));
    }

    #[test]
    fn nobody_exists_everywhere_and_other_unknown_names_do_not() {
        assert_eq!(user_in("", "nobody").map(|i| i.uid), Ok(NOBODY));
        let error = user_in(PASSWD, "wbe").unwrap_err().to_string();
        assert!(error.starts_with("user `wbe` is not in /etc/passwd"));
    }

    #[test]
    fn a_group_is_found_by_name_and_by_number() {
        assert_eq!(group_in("root:x:0:\nweb:x:44:me\n", "web"), Ok(44));
        assert_eq!(group_in("", "7"), Ok(7));
        assert!(group_in("", "web").is_err());
    }
}
