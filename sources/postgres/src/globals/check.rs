//! What becomes of roles and tablespaces on a server.

use super::{Globals, Role};
use crate::restore::{Report, TargetFacts, Verdict};

impl Globals {
    /// Says what becomes of each role and tablespace.
    pub(crate) fn check(&self, target: &TargetFacts, report: &mut Report) {
        for role in &self.roles {
            let object = format!("role {}", role.name.escape_debug());
            report.add(object, self.role(role, target));
        }
        for tablespace in &self.tablespaces {
            let object = format!("tablespace {}", tablespace.name.escape_debug());
            let verdict = match target.tablespaces.contains(&tablespace.name) {
                true => Verdict::LeftOut {
                    why: "there is one of that name, which stays as it is".to_owned(),
                },
                false => Verdict::Changed {
                    how: format!(
                        "made if its directory {} can be had; otherwise the default one is used in its place",
                        tablespace.location.escape_debug()
                    ),
                },
            };
            report.add(object, verdict);
        }
    }

    fn role(&self, role: &Role, target: &TargetFacts) -> Verdict {
        if target.roles.contains(&role.name) {
            return Verdict::LeftOut {
                why: "there is one of that name, which stays as it is".to_owned(),
            };
        }
        let refused = |why: &str| {
            Verdict::Refused {
            why: why.to_owned(),
            hint: "make the role first, or restore as a superuser, or restore databases by name: roles come with a whole source only".to_owned(),
        }
        };
        if !target.may_create_roles {
            return refused("the role that restores may not create roles");
        }
        if role.superuser && !target.is_superuser {
            return refused("only a superuser may make a superuser");
        }
        match role.login && !self.passwords {
            true => Verdict::Changed {
                how: "without a password: whoever backed up could not read it".to_owned(),
            },
            false => Verdict::Restored,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn roles_are_made_kept_or_refused() {
        let role = |name: &str, superuser: bool| Role {
            name: name.to_owned(),
            superuser,
            inherit: true,
            create_role: false,
            create_database: false,
            login: true,
            replication: false,
            bypass_rls: false,
            connection_limit: -1,
            password: None,
            valid_until: None,
            comment: None,
            settings: Vec::new(),
        };
        let globals = Globals {
            roles: vec![role("there", true), role("boss", true), role("app", false)],
            ..Globals::default()
        };
        let of = |is_superuser: bool, may_create_roles: bool| {
            let target = TargetFacts {
                is_superuser,
                may_create_roles,
                roles: ["there".to_owned()].into(),
                ..TargetFacts::default()
            };
            let mut report = Report::default();
            globals.check(&target, &mut report);
            let verdicts = report.findings.into_iter().map(|it| match it.verdict {
                Verdict::Restored => "restored",
                Verdict::Changed { .. } => "changed",
                Verdict::LeftOut { .. } => "kept",
                Verdict::Refused { .. } => "refused",
            });
            verdicts.collect::<Vec<_>>()
        };
        assert_eq!(of(true, true), ["kept", "changed", "changed"]);
        assert_eq!(of(false, true), ["kept", "refused", "changed"]);
        assert_eq!(of(false, false), ["kept", "refused", "refused"]);
    }
}
