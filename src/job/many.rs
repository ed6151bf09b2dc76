//! Lists in bodies: what they have is counted while it is read, for a short text may name more than there is room for.

use std::fmt;
use std::marker::PhantomData;

use serde::de::{Error, SeqAccess, Visitor};
use serde::{Deserialize, Deserializer};

/// The most elements of a list, but for plain numbers.
pub const MAX_MANY: usize = 10_000;

/// Reads a list of at most `MAX` elements.
///
/// # Errors
/// Where there are more, or one is none of them.
pub fn at_most<'de, const MAX: usize, D: Deserializer<'de>, T: Deserialize<'de>>(from: D) -> Result<Vec<T>, D::Error> {
    from.deserialize_seq(Counting::<MAX, T>(PhantomData))
}

struct Counting<const MAX: usize, T>(PhantomData<T>);

impl<'de, const MAX: usize, T: Deserialize<'de>> Visitor<'de> for Counting<MAX, T> {
    type Value = Vec<T>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a sequence")
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut from: A) -> Result<Vec<T>, A::Error> {
        let mut all = Vec::new();
        while let Some(one) = from.next_element()? {
            if all.len() == MAX {
                return Err(A::Error::custom(format!("there may be at most {MAX}")));
            }
            all.push(one);
        }
        Ok(all)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug, Deserialize)]
    struct Given {
        #[serde(deserialize_with = "at_most::<3, _, _>")]
        some: Vec<u8>,
    }

    #[test]
    fn a_list_is_read_up_to_its_bound_and_no_further() {
        let read = serde_json::from_str::<Given>;
        assert_eq!(read(r#"{"some":[1,2,3]}"#).unwrap().some, [1, 2, 3]);
        assert!(read(r#"{"some":[]}"#).unwrap().some.is_empty());
        // What comes after the bound is not looked at: it is no JSON.
        let refused = read(r#"{"some":[1,2,3,4,nonsense"#).unwrap_err().to_string();
        assert!(refused.contains("at most 3"), "{refused}");
        assert!(read(r#"{"some":7}"#).unwrap_err().to_string().contains("expected a sequence"));
    }
}
