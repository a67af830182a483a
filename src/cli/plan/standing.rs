//! What is kept for a model.

use serde_json::Value;

use super::text;
use crate::cli::{models::date, output};

pub(super) fn path(model: &str) -> String {
    format!("/api/v1/models/{model}/plan")
}

pub(super) fn show(standing: &Value) {
    let name = text(&standing["name"]);
    if standing["made"].is_null() {
        output::line(&format!("{name} is kept whole: {}", text(&standing["plan"])));
    } else {
        super::show(&standing["made"]);
    }
    if let Some(plan) = standing["better_once"].as_str() {
        output::line(&format!("{plan} was measured to be better once"));
    }
    for review in standing["reviews"].as_array().into_iter().flatten() {
        let at = review["at_us"].as_i64().map_or_else(|| "-".to_owned(), date);
        output::line(&format!("{at}  {}  {}", text(&review["verdict"]), text(&review["says"])));
    }
}
