//! Any payload as every message of the gateway: what can be read lies inside of it, and is what the generated code
//! reads.

use flatbuffers::{
    Follow, ForwardsUOffset, InvalidFlatbuffer, Vector, Verifiable, VerifierOptions, root_with_opts,
};
use plugin_runner::protocol::flat::Flaw;
use plugin_runner::protocol::generated::a6::{
    TextEntry, extra_info, httpreq_call, httpresp_call, prepare_conf,
};
use plugin_runner::protocol::message::{
    Entries, Entry, ExtraInfo, Malformed, PrepareConf, RequestCall, ResponseCall,
};

/// Names and values as the generated code reads them.
pub(crate) type Generated<'f> = Option<Vector<'f, ForwardsUOffset<TextEntry<'f>>>>;

/// Reads the payload as each of the messages.
pub fn read(payload: &[u8]) {
    prepare_conf(payload);
    request_call(payload);
    response_call(payload);
    extra_info(payload);
}

fn prepare_conf(payload: &[u8]) {
    let ours = PrepareConf::parse(payload);
    if let Ok(ours) = &ours {
        inside(payload, ours.key);
        all_inside(payload, &ours.conf);
    }
    if let Ok(theirs) = generated::<prepare_conf::Req<'_>>(payload) {
        let Some(ours) = accepted(ours) else { return };
        assert_eq!(ours.key, theirs.key().unwrap_or_default().as_bytes());
        same(&ours.conf, theirs.conf());
    }
}

fn request_call(payload: &[u8]) {
    let ours = RequestCall::parse(payload);
    if let Ok(ours) = &ours {
        assert_eq!(RequestCall::conf_token(payload), Ok(ours.conf_token));
        inside(payload, ours.src_ip);
        inside(payload, ours.path);
        all_inside(payload, &ours.args);
        all_inside(payload, &ours.headers);
    }
    if let Ok(theirs) = generated::<httpreq_call::Req<'_>>(payload) {
        let Some(ours) = accepted(ours) else { return };
        assert_eq!(
            (ours.id, ours.conf_token),
            (theirs.id(), theirs.conf_token())
        );
        assert_eq!(ours.method, theirs.method().0);
        let address = theirs.src_ip().map_or(&[][..], |bytes| bytes.bytes());
        assert_eq!(ours.src_ip, address);
        assert_eq!(ours.path, theirs.path().unwrap_or_default().as_bytes());
        same(&ours.args, theirs.args());
        same(&ours.headers, theirs.headers());
    }
}

fn response_call(payload: &[u8]) {
    let ours = ResponseCall::parse(payload);
    if let Ok(ours) = &ours {
        assert_eq!(ResponseCall::conf_token(payload), Ok(ours.conf_token));
        all_inside(payload, &ours.headers);
    }
    if let Ok(theirs) = generated::<httpresp_call::Req<'_>>(payload) {
        let Some(ours) = accepted(ours) else { return };
        assert_eq!(
            (ours.id, ours.conf_token),
            (theirs.id(), theirs.conf_token())
        );
        assert_eq!(ours.status, theirs.status());
        same(&ours.headers, theirs.headers());
    }
}

fn extra_info(payload: &[u8]) {
    let ours = ExtraInfo::parse(payload);
    if let Ok(Some(result)) = ours.map(|info| info.result) {
        inside(payload, result);
    }
    if let Ok(theirs) = generated::<extra_info::Resp<'_>>(payload) {
        let Some(ours) = accepted(ours) else { return };
        assert_eq!(ours.result, theirs.result().map(|bytes| bytes.bytes()));
    }
}

/// What ours made of a payload that the generated code accepts. `None` where ours is stricter: the verifier takes a vtable
/// shorter than its own two lengths for one without fields. No writer makes such a thing.
fn accepted<T>(ours: Result<T, Malformed>) -> Option<T> {
    match ours {
        Ok(ours) => Some(ours),
        Err(
            Malformed::Root(Flaw::Vtable)
            | Malformed::Field {
                flaw: Flaw::Vtable, ..
            }
            | Malformed::Entry {
                flaw: Flaw::Vtable, ..
            },
        ) => None,
        Err(error) => panic!("the generated code accepts it: {error}"),
    }
}

/// Verified with one rule less: the gateway puts no NUL behind empty text.
fn generated<'f, T>(payload: &'f [u8]) -> Result<T::Inner, InvalidFlatbuffer>
where
    T: Follow<'f> + Verifiable + 'f,
{
    let options = VerifierOptions {
        ignore_missing_null_terminator: true,
        ..Default::default()
    };
    root_with_opts::<T>(&options, payload)
}

/// Asserts equal names and values in equal order.
pub(crate) fn same(ours: &Entries<'_>, theirs: Generated<'_>) {
    let theirs = theirs.into_iter().flatten().map(|entry| Entry {
        name: entry.name().unwrap_or_default().as_bytes(),
        value: entry.value().map(str::as_bytes),
    });
    assert!(ours.iter().eq(theirs));
}

fn all_inside(payload: &[u8], entries: &Entries<'_>) {
    assert_eq!(entries.iter().count(), entries.len());
    assert_eq!(entries.get(entries.len()), None);
    for (index, entry) in entries.iter().enumerate() {
        // The whole of long entries is not compared: they may overlap, many times over.
        let again = entries.get(index).expect("it is within the length");
        assert!(std::ptr::eq(again.name, entry.name));
        assert_eq!(again.value.map(<[u8]>::len), entry.value.map(<[u8]>::len));
        inside(payload, entry.name);
        inside(payload, entry.value.unwrap_or_default());
    }
}

fn inside(payload: &[u8], value: &[u8]) {
    let (outer, inner) = (payload.as_ptr_range(), value.as_ptr_range());
    let within = outer.start <= inner.start && inner.end <= outer.end;
    assert!(within || value.is_empty());
}
