//! The variables by which a task finds what those that it needs made.

use std::collections::HashMap;

/// The variables for the result of `task`: `ORX_RESULT_` with its name as it is, and in capitals. What is no ASCII letter
/// or digit is `_`.
pub fn variables(task: &str) -> [String; 2] {
    let word: String = task.chars().map(|c| if c.is_ascii_alphanumeric() { c } else { '_' }).collect();
    [format!("ORX_RESULT_{word}"), format!("ORX_RESULT_{}", word.to_ascii_uppercase())]
}

/// Two tasks with results in one variable, and that variable.
pub fn clash<'a>(tasks: impl IntoIterator<Item = &'a str>) -> Option<(&'a str, &'a str, String)> {
    let mut taken = HashMap::new();
    tasks.into_iter().find_map(|task| {
        let [_, capitals] = variables(task);
        let before = *taken.entry(capitals.clone()).or_insert(task);
        (before != task).then_some((before, task, capitals))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_that_meet_in_one_variable_are_found() {
        assert_eq!(variables("unit-test"), ["ORX_RESULT_unit_test", "ORX_RESULT_UNIT_TEST"]);
        for [one, other] in [["A", "a"], ["a.b", "a-b"], ["x_1", "X.1"], ["é", "ü"]] {
            let variable = variables(one)[1].clone();
            assert_eq!(clash([one, "else", other]), Some((one, other, variable)));
        }
        assert_eq!(clash(["a", "b", "a", "ab"]), None);
    }
}
