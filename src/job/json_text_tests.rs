use proptest::prelude::*;
use serde_json::json;

use super::*;

fn text(json: &str) -> JsonText {
    json.parse().unwrap()
}

#[test]
fn it_is_kept_as_it_was_written_through_types_and_back() {
    #[derive(Serialize, Deserialize)]
    struct Holder {
        #[serde(default, skip_serializing_if = "Option::is_none", with = "present")]
        payload: Option<JsonText>,
    }
    for json in ["1.10", "-0", "1E400", "null", r#""\ud83d\ude00 \uD800 \/""#, "{ \"b\" : [ 1.0,\r\n2 ] }"] {
        let whole = format!("{{\"payload\":{json}}}");
        let mut track = serde_path_to_error::Track::new();
        let mut reader = serde_json::Deserializer::from_str(&whole);
        let tracked = serde_path_to_error::Deserializer::new(&mut reader, &mut track);
        let holder =
            Holder::deserialize(serde_ignored::Deserializer::new(tracked, &mut |_: serde_ignored::Path<'_>| ()));
        let holder = holder.unwrap();
        assert_eq!(holder.payload.as_ref().unwrap().as_str(), json);
        assert_eq!(serde_json::to_string(&holder).unwrap(), whole);
        assert_eq!(text(&format!(" \n{json}\t")).as_str(), json, "what is around it is no part of it");
    }
    assert!(serde_json::from_str::<Holder>("{}").unwrap().payload.is_none());
    for bad in ["", "1 2", "01", "{a:1}", "\"\n\"", "[1,]", "nul"] {
        assert!(bad.parse::<JsonText>().is_err(), "{bad}");
    }
}

#[test]
fn what_means_two_things_or_nests_without_end_is_told() {
    let twice = |json: &str| text(json).flaw();
    assert_eq!(twice(r#"{"a":{"b":1},"b":[{"a":1},{"a":1}],"A":2,"{":"}","":0}"#), None);
    for json in [r#"{"a":1,"b":2,"a":1}"#, r#"[0,{"x":{"a":1,"\u0061":2}}]"#, "{\"a\":{},\n \"a\" :[]}"] {
        assert_eq!(twice(json).as_deref(), Some("has the key \"a\" twice"), "{json}");
    }
    assert!(twice(r#"{"\ud800":1,"\uD800":1}"#).is_some() && twice(r#"{"\ud800":1,"\ud801":1}"#).is_none());
    let nested = |n: usize| text(&format!("{}{}", "[".repeat(n), "]".repeat(n)));
    assert_eq!(nested(MAX_DEPTH).flaw(), None);
    assert_eq!(nested(MAX_DEPTH + 1).flaw().as_deref(), Some("is nested deeper than 128"));
    assert!(nested(100_000).flaw().is_some() && nested(100_000).one_line().len() == 200_000);
}

#[test]
fn texts_that_say_the_same_have_one_form() {
    let form = |json: &str| text(json).canonical();
    assert_eq!(form("{ \"b\" : [ 1.10, {\"z\":0,\"y\":\" \"} ] ,\n\"a\":\"\\u0061\" }"), {
        r#"{"a":"\u0061","b":[1.10,{"y":" ","z":0}]}"#
    });
    assert_eq!(form("[ ]"), "[]");
    assert_ne!(form("[1.0]"), form("[1.00]"));
    assert_ne!(form("[1,2]"), form("[2,1]"));
}

#[test]
fn as_a_value_it_is_the_nearest_that_there_is() {
    let json =
        r#"{"a":[1e999,-1e999,1.5,12345678901234567890123],"\ud800":"\ud800!","$serde_json::private::RawValue":"1"}"#;
    let value = text(json).value();
    assert_eq!(value["a"], json!([f64::MAX, f64::MIN, 1.5, 12345678901234567890123.0]));
    assert_eq!(value["\u{fffd}\u{fffd}\u{fffd}"], "\u{fffd}\u{fffd}\u{fffd}!");
    assert_eq!(value["$serde_json::private::RawValue"], "1");
    assert_eq!(text(r#""a\n""#).string().as_deref(), Some("a\n"));
    assert_eq!(text("1").string(), None);
}

proptest! {
    #[test]
    fn whatever_is_json_is_read_as_serde_reads_it(seed in any::<u64>(), pretty in any::<bool>()) {
        // A value of nested lists and objects by the bits of a number.
        fn value(bits: &mut u64, depth: u8) -> Value {
            *bits = bits.rotate_right(5) ^ 0x9e37;
            let many = (*bits >> 9) % 4;
            match *bits % if depth < 4 { 7 } else { 4 } {
                0 => Value::Null,
                1 => json!(*bits as i64),
                2 => json!((*bits % 1000) as f64 / 8.0),
                3 => json!(format!("\"{}\\ \u{1}é{{[,:", *bits % 100)),
                4 => (0..many).map(|_| value(bits, depth + 1)).collect(),
                _ => Value::Object((0..many).map(|n| (format!("k{n}\""), value(bits, depth + 1))).collect()),
            }
        }
        let value = value(&mut seed.clone(), 0);
        let compact = value.to_string();
        let given = if pretty { serde_json::to_string_pretty(&value).unwrap() } else { compact.clone() };
        let text = text(&given);
        prop_assert_eq!(text.as_str(), &given);
        prop_assert_eq!(&text.one_line(), &compact);
        prop_assert_eq!(text.canonical(), compact);
        prop_assert_eq!(text.value(), value);
        prop_assert_eq!(text.flaw(), None);
        prop_assert_eq!(text.map(|_| None), text);
    }
}
