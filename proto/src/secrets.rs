//! Messages that hold secrets are not shown as they are.

use std::fmt;

use crate::v1;

impl fmt::Debug for v1::Member {
    /// Neither the password, nor the address, in which one may have been written by mistake.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Member")
            .field("name", &self.name)
            .field("locality", &self.locality)
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_member_is_shown_without_what_may_be_secret() {
        let member = v1::Member {
            name: "m1".into(),
            address: "postgres://role:canary@h/d".into(),
            password: "canary".into(),
            ..v1::Member::default()
        };
        let request = v1::RegisterSourceRequest {
            members: vec![member],
            ..v1::RegisterSourceRequest::default()
        };
        let shown = format!("{request:?}");
        assert!(shown.contains("m1") && !shown.contains("canary"), "{shown}");
    }
}
