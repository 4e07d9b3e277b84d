//! Sources, as they are registered.

use holdfast_node::ClusterKey;
use holdfast_proto::v1;
use holdfast_types::{
    ErrorCode, Fault, MemberLimits, MemberName, MemberRecord, Sealed, SourceKind, SourceRecord,
    Timestamp,
};
use std::ops::RangeInclusive;

use super::server_address::ServerAddress;

/// Members that one source may have.
const MAX_MEMBERS: usize = 4096;
/// The longest `host:port`.
const MAX_ADDRESS: usize = 512;
/// Streams that a worker may have at most on a member.
const MAX_STREAMS: u64 = 64;
/// The least rate, in bytes a second: with less no backup ends.
const MIN_RATE: u64 = 64 << 10;
/// The least that a hold must be allowed to keep: less than some segments of log would be given up at once.
const MIN_WAL_BUDGET: u64 = 64 << 20;
/// The longest password.
const MAX_PASSWORD: usize = 1024;

/// Reads a registration, or an update of `before`. Passwords are sealed here, before anything is proposed.
///
/// # Errors
/// `InvalidArgument`, which never repeats a password, nor an address that may hold one.
pub(crate) fn read_source(
    request: v1::RegisterSourceRequest,
    before: Option<&SourceRecord>,
    key: &ClusterKey,
    now: Timestamp,
) -> Result<SourceRecord, Fault> {
    let invalid = |text: String| Fault::new(ErrorCode::InvalidArgument, text);
    let name = request.name.parse()?;
    let kind: SourceKind = request.kind.parse()?;
    if !(1..=MAX_MEMBERS).contains(&request.members.len()) {
        return Err(invalid(format!(
            "source {name} has {} members; 1 to {MAX_MEMBERS} are possible",
            request.members.len()
        )));
    }
    let known = before.map(|before| before.members.as_slice());
    let mut members = request
        .members
        .into_iter()
        .map(|member| read_member(member, kind, known.unwrap_or_default(), key))
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
        kind,
        members,
        registered_at: now,
    })
}

fn read_member(
    wire: v1::Member,
    kind: SourceKind,
    known: &[MemberRecord],
    key: &ClusterKey,
) -> Result<MemberRecord, Fault> {
    let name: MemberName = wire.name.parse()?;
    let locality = wire.locality.parse().map_err(|error| {
        Fault::new(
            ErrorCode::InvalidArgument,
            format!("member {name}: {error}"),
        )
    })?;
    let of_member = |fault: Fault| fault.context(format_args!("member {name}"));
    let before = known.iter().find(|member| member.name == name);
    let limits = limits(&wire, kind, before).map_err(of_member)?;
    let secret = match kind {
        SourceKind::Mvcc => {
            check_host_and_port(&name, &wire.address)?;
            check_no_password(&wire).map_err(of_member)?;
            None
        }
        _ => {
            let place = ServerAddress::read(&wire.address).map_err(of_member)?;
            secret(&wire, &place, before, key).map_err(of_member)?
        }
    };
    Ok(MemberRecord {
        name,
        locality,
        address: wire.address,
        secret,
        limits,
    })
}

/// What backups may take of a member: as given, or as it was.
fn limits(
    wire: &v1::Member,
    kind: SourceKind,
    before: Option<&MemberRecord>,
) -> Result<MemberLimits, Fault> {
    let is_any =
        wire.streams.is_some() || wire.bytes_per_second.is_some() || wire.wal_budget.is_some();
    if kind == SourceKind::Mvcc && is_any {
        return Err(Fault::new(
            ErrorCode::InvalidArgument,
            "members of kind mvcc have no limits: the store paces what reads it, and keeps history as its own settings say",
        )
        .hint("leave the limits out, or register a source of kind postgres"));
    }
    let before = before.map(|member| member.limits).unwrap_or_default();
    let streams = wire.streams.map(u64::from);
    let was = before.streams.map(u64::from);
    let streams = limit("streams", streams, was, 1..=MAX_STREAMS)?;
    Ok(MemberLimits {
        streams: streams.and_then(|streams| u32::try_from(streams).ok()),
        bytes_per_second: limit(
            "bytes a second",
            wire.bytes_per_second,
            before.bytes_per_second,
            MIN_RATE..=u64::MAX,
        )?,
        wal_budget: limit(
            "bytes of log that a hold may keep",
            wire.wal_budget,
            before.wal_budget,
            MIN_WAL_BUDGET..=u64::MAX,
        )?,
    })
}

/// One limit: as given, or as it was; 0 takes it away.
fn limit(
    what: &str,
    given: Option<u64>,
    before: Option<u64>,
    legal: RangeInclusive<u64>,
) -> Result<Option<u64>, Fault> {
    match given {
        None => Ok(before),
        Some(0) => Ok(None),
        Some(value) if legal.contains(&value) => Ok(Some(value)),
        Some(value) => {
            let bounds = match *legal.end() {
                u64::MAX => format!("{} at least", legal.start()),
                most => format!("{} to {most}", legal.start()),
            };
            Err(Fault::new(
                ErrorCode::InvalidArgument,
                format!("{value} is no limit of {what}: {bounds}"),
            )
            .hint("give 0 for what is usual"))
        }
    }
}

fn check_host_and_port(name: &MemberName, address: &str) -> Result<(), Fault> {
    let port = address
        .rsplit_once(':')
        .filter(|(host, _)| !host.is_empty())
        .and_then(|(_, port)| port.parse::<u16>().ok())
        .filter(|port| *port > 0);
    // What is a connection string may hold a password.
    let is_string = address.contains("://");
    if port.is_some() && address.len() <= MAX_ADDRESS && !is_string {
        return Ok(());
    }
    let shown = match is_string || address.len() > MAX_ADDRESS {
        true => "the address".to_owned(),
        false => format!("address \"{}\"", address.escape_debug()),
    };
    Err(Fault::new(
        ErrorCode::InvalidArgument,
        format!("{shown} of member {name} must be host:port"),
    ))
}

fn check_no_password(wire: &v1::Member) -> Result<(), Fault> {
    if wire.password.is_empty() && !wire.clear_password {
        return Ok(());
    }
    Err(Fault::new(
        ErrorCode::InvalidArgument,
        "members of kind mvcc have no password",
    )
    .hint("leave it out, or register a source of kind postgres"))
}

/// The password of a member: the one that is given, or, where the address still leads to the same server and role, the one that it had.
fn secret(
    wire: &v1::Member,
    place: &ServerAddress,
    before: Option<&MemberRecord>,
    key: &ClusterKey,
) -> Result<Option<Sealed>, Fault> {
    let invalid = |text: String| Fault::new(ErrorCode::InvalidArgument, text);
    let password = &wire.password;
    if !password.is_empty() {
        if wire.clear_password {
            return Err(invalid(
                "a password is given, and is to be cleared".to_owned(),
            ));
        }
        if password.len() > MAX_PASSWORD || password.contains('\0') {
            return Err(invalid(format!(
                "a password has at most {MAX_PASSWORD} bytes, and no zero byte"
            )));
        }
        return Ok(Some(key.seal_secret(&wire.address, password)));
    }
    let kept = before.filter(|_| !wire.clear_password);
    let Some((member, sealed)) = kept.and_then(|it| Some((it, it.secret.as_ref()?))) else {
        return Ok(None);
    };
    if member.address == wire.address {
        return Ok(Some(sealed.clone()));
    }
    if ServerAddress::read(&member.address).as_ref() != Ok(place) {
        return Ok(None);
    }
    let opened = key.open_secret(&member.address, sealed)?;
    Ok(Some(key.seal_secret(&wire.address, &opened)))
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
                has_password: member.secret.is_some(),
                streams: member.limits.streams,
                bytes_per_second: member.limits.bytes_per_second,
                wal_budget: member.limits.wal_budget,
                ..v1::Member::default()
            })
            .collect(),
        registered: source.registered_at.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use holdfast_ledger::{Action, Command, encode_command};
    use prost::Message;

    const CANARY: &str = "canary-5ecret";

    fn key() -> ClusterKey {
        ClusterKey::from_bytes(&[7; 32])
    }

    fn member(name: &str, address: &str) -> v1::Member {
        v1::Member {
            name: name.into(),
            locality: "region=eu".into(),
            address: address.into(),
            ..v1::Member::default()
        }
    }

    fn with_password(address: &str, password: &str) -> v1::Member {
        v1::Member {
            password: password.into(),
            ..member("a", address)
        }
    }

    fn request(kind: &str, members: Vec<v1::Member>) -> v1::RegisterSourceRequest {
        v1::RegisterSourceRequest {
            name: "bank".into(),
            kind: kind.into(),
            members,
        }
    }

    fn read(
        kind: &str,
        members: Vec<v1::Member>,
        before: Option<&SourceRecord>,
    ) -> Result<SourceRecord, Fault> {
        let now = Timestamp::from_millis(1);
        read_source(request(kind, members), before, &key(), now)
    }

    #[test]
    fn kinds_that_nobody_knows_are_not_registered() {
        let fault = read("oracle", vec![member("a", "h:1")], None).expect_err("unknown");
        assert_eq!(fault.code, ErrorCode::InvalidArgument, "{fault}");
        assert!(fault.hint.is_some(), "{fault}");
    }

    #[test]
    fn members_are_sorted_and_checked() {
        let members = vec![member("b", "h:1"), member("a", "[::1]:2")];
        let source = read("mvcc", members, None).expect("legal");
        let names: Vec<&str> = source.members.iter().map(|m| m.name.as_str()).collect();
        assert_eq!(names, ["a", "b"]);
        for (kind, members, text) in [
            ("mvcc", vec![], "0 members"),
            (
                "mvcc",
                vec![member("a", "h:1"), member("a", "h:2")],
                "named twice",
            ),
            ("mvcc", vec![member("a", "h")], "must be host:port"),
            ("mvcc", vec![member("a", ":1")], "must be host:port"),
            ("mvcc", vec![member("a", "h:0")], "must be host:port"),
            ("mvcc", vec![member("a", "h:99999")], "must be host:port"),
            ("mvcc", vec![member("a b", "h:1")], "not a legal name"),
            ("mvcc", vec![with_password("h:1", "x")], "have no password"),
            ("postgres", vec![], "0 members"),
            (
                "postgres",
                vec![member("a", "h:1")],
                "does not begin with postgres://",
            ),
        ] {
            let fault = read(kind, members, None).expect_err(text);
            assert!(fault.message.contains(text), "{fault}");
        }
    }

    #[test]
    fn a_password_is_seen_by_nobody_but_who_has_the_key() {
        let address = "postgres://app@db:5433/shop";
        let source = read("postgres", vec![with_password(address, CANARY)], None).expect("legal");
        let secret = source.members[0].secret.as_ref().expect("sealed");
        let opened = key().open_secret(address, secret).expect("opens");
        assert_eq!(opened.as_str(), CANARY);
        let view = source_view(&source);
        assert!(view.members[0].has_password && view.members[0].password.is_empty());
        let command = Command {
            at: Timestamp::from_millis(1),
            action: Action::RegisterSource {
                source: source.clone(),
            },
        };
        let everywhere = [
            encode_command(&command),
            format!("{command:?}").into_bytes(),
            view.encode_to_vec(),
            format!("{view:?}").into_bytes(),
            holdfast_proto::to_json(&source).to_vec(),
            format!("{:?}", with_password(address, CANARY)).into_bytes(),
        ];
        for bytes in everywhere {
            let mut windows = bytes.windows(CANARY.len());
            assert!(!windows.any(|window| window == CANARY.as_bytes()));
        }
    }

    #[test]
    fn errors_tell_no_password() {
        let both = v1::Member {
            clear_password: true,
            ..with_password("postgres://app@db/shop", CANARY)
        };
        let cases = [
            ("postgres", with_password("nowhere", CANARY)),
            (
                "postgres",
                member("a", &format!("postgres://app:{CANARY}@db/shop")),
            ),
            (
                "postgres",
                member("a", &format!("postgres://app@db/s?password={CANARY}")),
            ),
            (
                "mvcc",
                member("a", &format!("postgres://app:{CANARY}@db/shop")),
            ),
            ("mvcc", with_password("h:1", CANARY)),
            ("postgres", both),
            (
                "postgres",
                with_password("postgres://app@db/s", &CANARY.repeat(100)),
            ),
            (
                "postgres",
                with_password("postgres://app@db/s", &format!("{CANARY}\0")),
            ),
        ];
        for (kind, member) in cases {
            let fault = read(kind, vec![member], None).expect_err("wrong");
            assert_eq!(fault.code, ErrorCode::InvalidArgument);
            assert!(!fault.to_string().contains(CANARY), "{fault}");
        }
    }

    #[test]
    fn limits_are_within_bounds_and_stay_until_they_are_taken_away() {
        let address = "postgres://app@db:5433/shop";
        let limited = |streams, bytes_per_second, wal_budget| v1::Member {
            streams,
            bytes_per_second,
            wal_budget,
            ..member("a", address)
        };
        let given = limited(Some(2), Some(1 << 20), Some(1 << 30));
        let first = read("postgres", vec![given], None).expect("legal");
        let limits = MemberLimits {
            streams: Some(2),
            bytes_per_second: Some(1 << 20),
            wal_budget: Some(1 << 30),
        };
        assert_eq!(first.members[0].limits, limits);
        let view = source_view(&first);
        let shown = (view.members[0].streams, view.members[0].wal_budget);
        assert_eq!(shown, (Some(2), Some(1 << 30)));
        let next =
            |member| read("postgres", vec![member], Some(&first)).map(|it| it.members[0].limits);
        assert_eq!(next(member("a", address)), Ok(limits));
        let some = MemberLimits {
            streams: None,
            bytes_per_second: Some(1 << 21),
            ..limits
        };
        assert_eq!(next(limited(Some(0), Some(1 << 21), None)), Ok(some));
        for wrong in [
            limited(Some(65), None, None),
            limited(None, Some(1), None),
            limited(None, None, Some(1 << 20)),
        ] {
            let fault = next(wrong).expect_err("out of bounds");
            assert!(fault.message.contains("member a: "), "{fault}");
            assert!(fault.hint.is_some());
        }
        let mvcc = v1::Member {
            address: "h:1".into(),
            ..limited(Some(2), None, None)
        };
        let fault = read("mvcc", vec![mvcc], None).expect_err("not there");
        assert!(
            fault.message.contains("kind mvcc have no limits"),
            "{fault}"
        );
    }

    #[test]
    fn an_update_keeps_the_password_of_the_same_server_and_role_only() {
        let address = "postgres://app@db:5433/shop";
        let before = read("postgres", vec![with_password(address, CANARY)], None).expect("legal");
        let after = |member: v1::Member| {
            let source = read("postgres", vec![member], Some(&before)).expect("legal");
            let member = source.members.into_iter().next().expect("one");
            let sealed = member.secret.as_ref();
            sealed.map(|sealed| {
                key()
                    .open_secret(&member.address, sealed)
                    .expect("opens")
                    .to_string()
            })
        };
        let kept = Some(CANARY.to_owned());
        for same in [
            address,
            "postgres://app@db:5433/other?sslmode=require",
            "postgresql://app@DB:5433/shop",
        ] {
            assert_eq!(after(member("a", same)), kept, "{same}");
        }
        for other in [
            "postgres://app@evil:5433/shop",
            "postgres://app@db:5434/shop",
            "postgres://root@db:5433/shop",
            "postgres://app@db:5433/shop?host=evil",
            "postgres://app@db:5433/shop?hostaddr=10.0.0.66",
        ] {
            assert_eq!(after(member("a", other)), None, "{other}");
        }
        assert_eq!(after(member("b", address)), None, "another member");
        assert_eq!(after(with_password(address, "new")), Some("new".to_owned()));
        let cleared = v1::Member {
            clear_password: true,
            ..member("a", address)
        };
        assert_eq!(after(cleared), None);
        // What is as it was is the same, so that nothing is proposed twice.
        let again = read("postgres", vec![member("a", address)], Some(&before));
        assert_eq!(again, Ok(before));
    }
}
