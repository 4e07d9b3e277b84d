//! Sources, as they are registered.

use holdfast_proto::v1;
use holdfast_types::{ErrorCode, Fault, MemberRecord, SourceKind, SourceRecord, Timestamp};

/// Members that one source may have.
const MAX_MEMBERS: usize = 4096;
/// The longest address.
const MAX_ADDRESS: usize = 512;

/// Reads a registration.
pub(crate) fn read_source(
    request: v1::RegisterSourceRequest,
    now: Timestamp,
) -> Result<SourceRecord, Fault> {
    let invalid = |text: String| Fault::new(ErrorCode::InvalidArgument, text);
    let name = request.name.parse()?;
    if !(1..=MAX_MEMBERS).contains(&request.members.len()) {
        return Err(invalid(format!(
            "source {name} has {} members; 1 to {MAX_MEMBERS} are possible",
            request.members.len()
        )));
    }
    let mut members = request
        .members
        .into_iter()
        .map(read_member)
        .collect::<Result<Vec<_>, _>>()?;
    members.sort_by(|a, b| a.name.cmp(&b.name));
    if let Some([twice, _]) = members.array_windows::<2>().find(|[a, b]| a.name == b.name) {
        return Err(invalid(format!(
            "member {} of source {name} is named twice",
            twice.name
        )));
    }
    Ok(SourceRecord {
        name,
        kind: served(request.kind.parse()?)?,
        members,
        registered_at: now,
    })
}

/// Kinds of sources that jobs can work on.
fn served(kind: SourceKind) -> Result<SourceKind, Fault> {
    match kind {
        SourceKind::Mvcc => Ok(kind),
        other => Err(Fault::new(
            ErrorCode::Unsupported,
            format!("sources of kind {other} are not served by this version"),
        )
        .hint("the kind served by this version is mvcc")),
    }
}

fn read_member(wire: v1::Member) -> Result<MemberRecord, Fault> {
    let invalid = |text: String| Fault::new(ErrorCode::InvalidArgument, text);
    let name: holdfast_types::MemberName = wire.name.parse()?;
    let locality = wire
        .locality
        .parse()
        .map_err(|error| invalid(format!("member {name}: {error}")))?;
    let port = wire
        .address
        .rsplit_once(':')
        .filter(|(host, _)| !host.is_empty())
        .and_then(|(_, port)| port.parse::<u16>().ok())
        .filter(|port| *port > 0);
    if port.is_none() || wire.address.len() > MAX_ADDRESS {
        return Err(invalid(format!(
            "address \"{}\" of member {name} must be host:port",
            wire.address.escape_debug()
        )));
    }
    Ok(MemberRecord {
        name,
        locality,
        address: wire.address,
        secret: None,
    })
}

/// A source as clients see it.
pub(crate) fn source_view(source: &SourceRecord) -> v1::Source {
    v1::Source {
        name: source.name.to_string(),
        kind: source.kind.to_string(),
        members: source
            .members
            .iter()
            .map(|member| v1::Member {
                name: member.name.to_string(),
                locality: member.locality.to_string(),
                address: member.address.clone(),
                ..v1::Member::default()
            })
            .collect(),
        registered: source.registered_at.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn member(name: &str, address: &str) -> v1::Member {
        v1::Member {
            name: name.into(),
            locality: "region=eu".into(),
            address: address.into(),
            ..v1::Member::default()
        }
    }

    fn request(members: Vec<v1::Member>) -> v1::RegisterSourceRequest {
        v1::RegisterSourceRequest {
            name: "bank".into(),
            kind: "mvcc".into(),
            members,
        }
    }

    #[test]
    fn only_kinds_that_jobs_can_work_on_are_registered() {
        for (kind, code) in [
            ("postgres", ErrorCode::Unsupported),
            ("oracle", ErrorCode::InvalidArgument),
        ] {
            let request = v1::RegisterSourceRequest {
                kind: kind.into(),
                ..request(vec![member("a", "h:1")])
            };
            let fault = read_source(request, Timestamp::from_millis(1)).expect_err(kind);
            assert_eq!(fault.code, code, "{fault}");
            assert!(fault.hint.is_some(), "{fault}");
        }
    }

    #[test]
    fn members_are_sorted_and_checked() {
        let now = Timestamp::from_millis(1);
        let source = read_source(
            request(vec![member("b", "h:1"), member("a", "[::1]:2")]),
            now,
        )
        .expect("legal");
        let names: Vec<&str> = source.members.iter().map(|m| m.name.as_str()).collect();
        assert_eq!(names, ["a", "b"]);
        for (members, text) in [
            (vec![], "0 members"),
            (vec![member("a", "h:1"), member("a", "h:2")], "named twice"),
            (vec![member("a", "h")], "must be host:port"),
            (vec![member("a", ":1")], "must be host:port"),
            (vec![member("a", "h:0")], "must be host:port"),
            (vec![member("a", "h:99999")], "must be host:port"),
            (vec![member("a b", "h:1")], "not a legal name"),
        ] {
            let fault = read_source(request(members), now).expect_err(text);
            assert!(fault.message.contains(text), "{fault}");
        }
    }
}
