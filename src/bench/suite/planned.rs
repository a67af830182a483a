//! A plan of the matrix: an order as `POST /api/v1/plans` takes it, and the lanes that it names.

use std::collections::BTreeSet;

use serde_json::{Value, json};

use crate::domain::BackendKind;

#[derive(Clone, Debug, PartialEq)]
pub struct Planned {
    /// Without the model.
    pub order: Value,
    /// In the suite's file.
    pub line: usize,
    /// Where its last stage runs, which is where its answers come from.
    pub browser: String,
    pub backend: BackendKind,
    /// All that it names.
    pub browsers: BTreeSet<String>,
}

impl Planned {
    /// Checks what only the suite cares for: that the order says where it runs. The daemon judges the rest.
    pub(super) fn of(mut order: Value, line: usize) -> Result<Self, String> {
        let Some(table) = order.as_object_mut() else { return Err("a plan is a table".to_owned()) };
        if table.contains_key("model") {
            return Err("a plan's order has no model: each of the suite's is split by it".to_owned());
        }
        // A figure is of the lanes that are named, and of no others.
        table.entry("fallback").or_insert_with(|| json!("none"));
        let lanes = match (&table.get("split"), &table.get("stages")) {
            (Some(split), None) => list(&split["lanes"]).iter().map(lane).collect(),
            (None, Some(stages)) => list(stages).iter().map(stage).collect(),
            _ => return Err("a plan has either `split` or `stages`".to_owned()),
        };
        let lanes: Option<Vec<(String, BackendKind)>> = lanes;
        let wanted = "a plan names the `lanes` of its split as `firefox-1/wasm`, or of each stage the lane, or browser and \
                      backend";
        let lanes = lanes.ok_or_else(|| wanted.to_owned())?;
        let (browser, backend) = lanes.last().cloned().ok_or_else(|| wanted.to_owned())?;
        let browsers = lanes.into_iter().map(|(browser, _)| browser).collect();
        Ok(Self { order, line, browser, backend, browsers })
    }
}

fn list(value: &Value) -> &[Value] {
    value.as_array().map_or(&[], Vec::as_slice)
}

/// The browser and the backend of a lane, as `firefox-1/wasm` and `native/ort-cpu` have them.
fn lane(name: &Value) -> Option<(String, BackendKind)> {
    let (instance, backend) = name.as_str()?.split_once('/')?;
    let browser = instance.rsplit_once('-').map_or(instance, |(browser, _)| browser);
    Some((browser.to_owned(), backend.parse().ok()?))
}

fn stage(stage: &Value) -> Option<(String, BackendKind)> {
    if let Some(found) = lane(&stage["lane"]) {
        return Some(found);
    }
    Some((stage["browser"].as_str()?.to_owned(), stage["backend"].as_str()?.parse().ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_plan_says_where_it_runs() {
        let cases = [
            (json!({"split": {"lanes": ["native/ort-cpu", "firefox-1/wasm"]}}), Ok(("firefox", 2))),
            (
                json!({"stages": [{"model": "a", "lane": "chromium-webnn-1/webnn"}]}),
                Ok(("chromium-webnn", 1)),
            ),
            (json!({"stages": [{"model": "a", "browser": "edge", "backend": "wasm"}]}), Ok(("edge", 1))),
            (json!({"split": {"stages": 2}}), Err("names the `lanes`")),
            (json!({"split": {"lanes": ["firefox-1"]}}), Err("names the `lanes`")),
            (json!({"split": {"lanes": ["firefox-1/cuda"]}}), Err("names the `lanes`")),
            (json!({"stages": [{"model": "a", "browser": "edge"}]}), Err("of each stage")),
            (json!({"stages": []}), Err("of each stage")),
            (json!({"split": {}, "stages": []}), Err("either `split` or `stages`")),
            (json!({}), Err("either `split` or `stages`")),
            (json!({"model": "a", "split": {}}), Err("has no model")),
            (json!("even"), Err("is a table")),
        ];
        for (order, wanted) in cases {
            match (Planned::of(order.clone(), 1), wanted) {
                (Ok(planned), Ok((browser, count))) => {
                    assert_eq!(
                        (planned.browser.as_str(), planned.browsers.len()),
                        (browser, count),
                        "{order}"
                    );
                    assert_eq!(planned.order["fallback"], "none", "{order}");
                }
                (Err(message), Err(said)) => assert!(message.contains(said), "{order}: {message}"),
                (found, _) => panic!("{order}: {found:?}"),
            }
        }
        let order = json!({"fallback": "lanes", "split": {"lanes": ["a-1/wasm"]}});
        assert_eq!(Planned::of(order, 1).unwrap().order["fallback"], "lanes");
    }
}
