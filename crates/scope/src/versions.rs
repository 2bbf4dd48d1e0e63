//! Which servers have a name, and since which release of this program its row is as it is.

use std::fmt;

/// A release of MongoDB: major and minor.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Release(pub u8, pub u8);

/// Servers before the ones that are covered.
pub const V4_2: Release = Release(4, 2);
/// The oldest servers that are covered.
pub const V4_4: Release = Release(4, 4);
/// 5.0.
pub const V5_0: Release = Release(5, 0);
/// 6.0.
pub const V6_0: Release = Release(6, 0);
/// 7.0.
pub const V7_0: Release = Release(7, 0);
/// The newest servers that are covered.
pub const V8_0: Release = Release(8, 0);
/// 8.1: its names are known, its servers are not served yet.
pub(crate) const V8_1: Release = Release(8, 1);
/// 8.2, as 8.1.
pub(crate) const V8_2: Release = Release(8, 2);
/// 8.3, as 8.1.
pub(crate) const V8_3: Release = Release(8, 3);

/// `maxWireVersion` of 5.0.
pub const WIRE_VERSION_5_0: i32 = 13;
/// `maxWireVersion` of 6.0.
pub const WIRE_VERSION_6_0: i32 = 17;
/// `maxWireVersion` of 7.0.
pub const WIRE_VERSION_7_0: i32 = 21;

/// The release of this program in which every row stands that says nothing else.
pub const FIRST_RELEASE: &str = "0.1";

/// Consecutive releases of servers. What came with a rapid release counts from the next yearly one, as 5.2 does from 6.0.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Versions {
    first: Release,
    last: Option<Release>,
}

impl Versions {
    /// Every server that is covered.
    pub const ALL: Self = Self::from(V4_4);

    /// This release and later ones.
    pub const fn from(first: Release) -> Self {
        Self { first, last: None }
    }

    /// The same, ending with this release.
    #[must_use]
    pub const fn until(self, last: Release) -> Self {
        Self {
            first: self.first,
            last: Some(last),
        }
    }

    /// Whether a release is among them.
    pub fn includes(self, release: Release) -> bool {
        self.first <= release && self.last.is_none_or(|last| release <= last)
    }
}

impl fmt::Display for Release {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}", self.0, self.1)
    }
}

impl fmt::Display for Versions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (first, last) = (self.first, self.last.unwrap_or(V8_0));
        if last < V4_4 {
            write!(f, "before {V4_4}")
        } else if first > V8_0 && self.last.is_none() {
            write!(f, "{first} and later")
        } else if first == last {
            write!(f, "{first}")
        } else {
            write!(f, "{first}–{last}")
        }
    }
}

/// Where a server has a name, besides its version.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Edition {
    /// Every mongod.
    Mongod,
    /// Only mongos.
    Mongos,
    /// Only Enterprise, Atlas, or with a search or stream-processing service at its side.
    Special,
}

impl Edition {
    /// What the documentation says behind the versions; nothing for every mongod.
    pub fn remark(self) -> &'static str {
        match self {
            Self::Mongod => "",
            Self::Mongos => " (mongos)",
            Self::Special => " (Enterprise or Atlas)",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_text_names_the_covered_servers() {
        let text = |versions: Versions| versions.to_string();
        assert_eq!(text(Versions::ALL), "4.4–8.0");
        assert_eq!(text(Versions::ALL.until(V4_4)), "4.4");
        assert_eq!(text(Versions::ALL.until(V4_2)), "before 4.4");
        assert_eq!(text(Versions::from(V5_0)), "5.0–8.0");
        assert_eq!(text(Versions::from(V8_0)), "8.0");
        assert_eq!(text(Versions::from(V8_1)), "8.1 and later");
        assert_eq!(text(Versions::from(V8_1).until(V8_2)), "8.1–8.2");
    }

    #[test]
    fn a_range_includes_its_ends() {
        let range = Versions::from(V5_0).until(V7_0);
        let inside = [V4_4, V5_0, V6_0, V7_0, V8_0].map(|release| range.includes(release));
        assert_eq!(inside, [false, true, true, true, false]);
        assert!(!Versions::ALL.until(V4_2).includes(V4_4));
    }
}
