use super::*;

fn spec(text: &str) -> Texts {
    Texts::read(Some(text.as_bytes()), None, None)
}

fn why(texts: &Texts) -> Option<Misread> {
    texts.unread.as_ref().map(|unread| unread.why)
}

#[test]
fn what_is_written_here_is_read_whole() {
    let whole =
        Texts::read(Some(br#"{"command":["a"],"priority":5}"#), Some(br#"{"cwd":"/"}"#), Some(br#"{"task":"build"}"#));
    assert_eq!(whole.unread, None);
    assert_eq!((whole.spec.priority(), whole.captured.cwd.as_deref()), (5, Some("/")));
    assert_eq!(whole.origin.task.as_deref(), Some("build"));
}

#[test]
fn s29_unknown_fields_and_words_are_of_a_newer_orx_and_the_rest_is_understood() {
    for (text, told) in [
        (r#"{"command":["a"],"queue":"q","sandbox":true}"#, "spec.sandbox"),
        (r#"{"command":["a"],"queue":"q","on_conflict":"merge"}"#, "spec.on_conflict"),
        (r#"{"command":["a"],"queue":"q","timeout":"two moons"}"#, "spec.timeout"),
        (r#"{"container":"a","queue":"q"}"#, "spec.container"),
    ] {
        let read = spec(text);
        let unread = read.unread.as_ref().unwrap();
        assert_eq!(unread.why, Misread::Newer, "{text}: {unread}");
        assert!(unread.what.starts_with(told), "{text}: {unread}");
        assert_eq!(read.spec.queue(), "q", "{text}");
    }
    let captured = Texts::read(Some(br#"{"command":["a"]}"#), Some(br#"{"umask":18,"cwd":"/x"}"#), None);
    assert_eq!((why(&captured), captured.captured.cwd.as_deref()), (Some(Misread::Newer), Some("/x")));
    let origin = Texts::read(Some(br#"{"command":["a"]}"#), None, Some(br#"{"task":"t","shard":3}"#));
    assert_eq!((why(&origin), origin.origin.task.as_deref()), (Some(Misread::Newer), Some("t")));
}

#[test]
fn s29_what_no_orx_writes_is_unreadable() {
    for text in [
        "",
        r#"{"command":["tru"#,
        "null",
        "[]",
        "5",
        "{}",
        r#"{"queue":"q"}"#,
        r#"{"command":[]}"#,
        r#"{"command":["a"],"handler":"b"}"#,
        r#"{"command":5}"#,
        r#"{"command":["a"],"priority":[]}"#,
        r#"{"command":["a"],"priority":99999999999}"#,
        r#"{"command":["a"],"command":["b"]}"#,
    ] {
        assert_eq!(why(&spec(text)), Some(Misread::Unreadable), "{text}");
    }
    assert_eq!(why(&Texts::read(Some(b"{\"command\":[\"\xff\"]}"), None, None)), Some(Misread::Unreadable));
    assert_eq!(why(&Texts::read(None, None, None)), Some(Misread::Unreadable));
    for (captured, origin) in [(Some("{\"cwd\""), None), (None, Some("{\"run_id\":7}")), (Some("[]"), None)] {
        let [captured, origin] = [captured, origin].map(|text| text.map(str::as_bytes));
        let read = Texts::read(Some(br#"{"command":["a"],"sandbox":1}"#), captured, origin);
        assert_eq!(why(&read), Some(Misread::Unreadable), "damage is worse than what is new");
    }
}
