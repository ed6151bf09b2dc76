//! Which errors are alike: the same text but for numbers, ids and places.

/// The longest fingerprint, in bytes.
const MAX: usize = 160;

/// The part of an error that stays the same from job to job.
///
/// Words with a digit become `#`, so that ids, times, addresses and counts do not keep alike errors apart.
pub fn fingerprint(error: &str) -> String {
    let mut out = String::new();
    for word in error.split_whitespace() {
        let hashed = word.chars().any(|c| c.is_ascii_digit());
        let word = if hashed { "#" } else { word };
        if hashed && out.ends_with('#') {
            continue;
        }
        if out.len() + word.len() + 1 > MAX {
            break;
        }
        if !out.is_empty() {
            out.push(' ');
        }
        out.push_str(&word.to_lowercase());
    }
    out
}

#[cfg(test)]
mod tests {
    use super::fingerprint;

    #[test]
    fn alike_errors_have_one_fingerprint() {
        let a = fingerprint("Timeout after 31s talking to 10.0.0.7:5432 (req 8f3a)");
        let b = fingerprint("timeout after 7s talking to 10.0.0.9:5432  (req 11aa)");
        assert_eq!(a, "timeout after # talking to # (req #");
        assert_eq!(a, b);
        assert_ne!(fingerprint("no such file"), fingerprint("permission denied"));
        assert!(fingerprint(&"x ".repeat(1000)).len() <= 160);
    }
}
