//! That router, document and table of scopes have the same routes.

use std::collections::BTreeSet;

use axum::Router;
use utoipa::{
    PartialSchema as _,
    openapi::{OpenApi, RefOr, Schema, path::Operation},
};

use super::{error, routes, routes::listed};
use crate::{domain::Code, tasks::Tasks};

/// A path and a method.
type Route = (String, String);

/// As the document tells them.
fn documented(document: &OpenApi) -> BTreeSet<Route> {
    let items = document.paths.paths.iter().flat_map(|(path, item)| {
        let methods: [(&str, &Option<Operation>); 8] = [
            ("get", &item.get),
            ("head", &item.head),
            ("delete", &item.delete),
            ("options", &item.options),
            ("patch", &item.patch),
            ("post", &item.post),
            ("put", &item.put),
            ("trace", &item.trace),
        ];
        methods
            .into_iter()
            .filter(|(_, there)| there.is_some())
            .map(|(method, _)| (path.clone(), method.to_owned()))
    });
    items.collect()
}

/// As axum routes them, read from what it prints of itself, since it lists them nowhere else.
fn routed<S>(router: &Router<S>) -> BTreeSet<Route> {
    let printed = format!("{router:?}");
    let (handlers, rest) = printed.split_once("node: Node { paths: ").expect("a router prints its paths");
    let (paths, _) = rest.split_once("\"} }").expect("the paths end");
    let handler = |id: &str| {
        let at = handlers.find(&format!("RouteId({id}): MethodRouter("));
        let rest = &handlers[at.unwrap_or_else(|| panic!("no route {id} in {handlers}"))..];
        rest.split_once("allow_header").expect("a method router prints itself whole").0
    };
    let mut found = BTreeSet::new();
    for entry in paths.split("RouteId(").skip(1) {
        let (id, rest) = entry.split_once("): \"").expect("an id and a path");
        let path = rest.split('"').next().expect("a path ends");
        let methods = ["get", "head", "delete", "options", "patch", "post", "put", "trace", "connect"];
        for method in methods.into_iter().filter(|method| !handler(id).contains(&format!("{method}: None"))) {
            found.insert((path.to_owned(), method.to_owned()));
        }
    }
    found
}

#[test]
fn the_router_the_document_and_the_table_of_scopes_have_the_same_routes() {
    let (router, document) = routes(&Tasks::new()).split_for_parts();
    let (routed, documented) = (routed(&router), documented(&document));
    let scoped: BTreeSet<Route> = listed().collect();
    assert!(routed.contains(&("/api/v1/models/{name}".to_owned(), "delete".to_owned())), "{routed:?}");
    let only = |a: &BTreeSet<Route>, b: &BTreeSet<Route>| a.difference(b).cloned().collect::<Vec<_>>();
    assert_eq!(only(&routed, &documented), [], "routes that the document does not tell");
    assert_eq!(only(&documented, &routed), [], "told by the document, and no routes");
    assert_eq!(only(&routed, &scoped), [], "routes that the table of scopes does not have");
    assert_eq!(only(&scoped, &routed), [], "in the table of scopes, and no routes");
}

#[test]
fn every_code_is_listed_once() {
    let RefOr::T(Schema::Object(codes)) = Code::schema() else { panic!("codes are words") };
    let codes = codes.enum_values.expect("a closed list");
    let listed: Vec<_> = Code::ALL.iter().map(|code| serde_json::json!(code)).collect();
    assert_eq!(listed, codes);
    let titles: BTreeSet<_> = Code::ALL.map(error::title).into();
    assert_eq!(titles.len(), codes.len());
}
