//! Localities: ordered tiers such as `region=eu-west,zone=b`, from the widest to the narrowest.

use serde::{Deserialize, Serialize};
use std::fmt;
use std::str::FromStr;

/// One `key=value` pair of a locality.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Tier {
    /// What kind of place: `region`, `zone`.
    pub key: String,
    /// Which one.
    pub value: String,
}

impl fmt::Display for Tier {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}={}", self.key, self.value)
    }
}

impl FromStr for Tier {
    type Err = LocalityError;

    fn from_str(text: &str) -> Result<Self, LocalityError> {
        let locality: Locality = text.parse()?;
        let mut tiers = locality.0.into_iter();
        match (tiers.next(), tiers.next()) {
            (Some(tier), None) => Ok(tier),
            _ => Err(LocalityError {
                tier: text.to_owned(),
            }),
        }
    }
}

/// Where a process, a member or a store is. The empty locality says nothing and is contained in every other.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Locality(Vec<Tier>);

/// Why a text is not a locality.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("locality tier \"{tier}\" must be in the form key=value, with every key once")]
pub struct LocalityError {
    tier: String,
}

impl Locality {
    /// The tiers, widest first.
    #[must_use]
    pub fn tiers(&self) -> &[Tier] {
        &self.0
    }

    /// Whether no tier is given.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Whether every tier of `filter` is among the tiers of this locality.
    #[must_use]
    pub fn contains(&self, filter: &Self) -> bool {
        filter.0.iter().all(|tier| self.0.contains(tier))
    }

    /// Which of some tiers says most of this place: that of its own most specific tier which is among them. `None` if none is.
    #[must_use]
    pub fn most_specific<'a>(
        &self,
        tiers: impl Iterator<Item = &'a Tier> + Clone,
    ) -> Option<usize> {
        let own = self.0.iter().rev();
        own.filter_map(|own| tiers.clone().position(|tier| tier == own))
            .next()
    }

    /// How many leading tiers the two share: the nearness of two places. Tiers below a differing one do not count, for
    /// zone `b` of one region is not zone `b` of another.
    #[must_use]
    pub fn shared_prefix(&self, other: &Self) -> usize {
        self.0
            .iter()
            .zip(&other.0)
            .take_while(|(a, b)| a == b)
            .count()
    }
}

impl fmt::Display for Locality {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, tier) in self.0.iter().enumerate() {
            if index > 0 {
                f.write_str(",")?;
            }
            write!(f, "{tier}")?;
        }
        Ok(())
    }
}

impl FromStr for Locality {
    type Err = LocalityError;

    fn from_str(text: &str) -> Result<Self, LocalityError> {
        let mut tiers: Vec<Tier> = Vec::new();
        for part in text
            .split(',')
            .map(str::trim)
            .filter(|part| !part.is_empty())
        {
            let error = || LocalityError {
                tier: part.to_owned(),
            };
            let (key, value) = part.split_once('=').ok_or_else(error)?;
            let (key, value) = (key.trim(), value.trim());
            if key.is_empty() || value.is_empty() || value.contains('=') {
                return Err(error());
            }
            if tiers.iter().any(|tier| tier.key == key) {
                return Err(error());
            }
            tiers.push(Tier {
                key: key.to_owned(),
                value: value.to_owned(),
            });
        }
        Ok(Self(tiers))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(text: &str) -> Locality {
        text.parse().expect("a legal locality")
    }

    #[test]
    fn the_most_specific_tier_decides() {
        let tier = |text: &str| text.parse::<Tier>().expect("a tier");
        let tiers = [tier("region=eu"), tier("zone=b"), tier("zone=c")];
        for (place, found) in [
            ("region=eu,zone=b", Some(1)),
            ("region=us,zone=c", Some(2)),
            ("region=eu,zone=a", Some(0)),
            ("region=us", None),
            ("", None),
        ] {
            assert_eq!(parse(place).most_specific(tiers.iter()), found, "{place}");
        }
        for text in ["", "region=eu,zone=b", "region"] {
            assert!(text.parse::<Tier>().is_err(), "{text}");
        }
    }

    #[test]
    fn prints_as_it_was_written() {
        assert_eq!(parse("region=eu, zone=b").to_string(), "region=eu,zone=b");
        assert_eq!(parse("").to_string(), "");
    }

    #[test]
    fn malformed_tiers_are_named() {
        for text in ["region", "=eu", "region=", "region=eu=1", "zone=a,zone=b"] {
            let error = text.parse::<Locality>().expect_err(text);
            assert!(error.to_string().contains("key=value"), "{error}");
        }
    }

    #[test]
    fn nearness_stops_at_the_first_difference() {
        let place = parse("region=eu,zone=b");
        assert_eq!(place.shared_prefix(&parse("region=eu,zone=b")), 2);
        assert_eq!(place.shared_prefix(&parse("region=eu,zone=a")), 1);
        assert_eq!(place.shared_prefix(&parse("region=us,zone=b")), 0);
    }

    #[test]
    fn containment_is_by_tier() {
        let place = parse("region=eu,zone=b");
        assert!(place.contains(&Locality::default()));
        assert!(place.contains(&parse("zone=b")));
        assert!(!place.contains(&parse("zone=b,rack=1")));
    }
}
