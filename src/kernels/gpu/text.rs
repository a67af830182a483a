//! Sources out of templates: parts by name, and the functions that they call.

/// What kernels call beside WGSL's own functions.
pub(super) const FUNCTIONS: &str = include_str!("wgsl/functions.wgsl");

/// Puts each part where the template names it, in their order: a part may name later ones.
pub(super) fn fill(template: &str, parts: &[(&str, &str)]) -> String {
    let put = |text: String, (name, part): &(&str, &str)| text.replace(&format!("{{{{{name}}}}}"), part);
    let text = parts.iter().fold(template.to_owned(), put);
    debug_assert!(!text.contains("{{"), "a part is missing in {text}");
    text
}

/// The functions that a source calls, and those that they call.
pub(super) fn called(source: &str) -> String {
    let all: Vec<(&str, &str)> =
        FUNCTIONS.split("\n\n").filter_map(|text| Some((name(text)?, text))).collect();
    let mut taken = vec![false; all.len()];
    let mut found = String::new();
    loop {
        let calls = |name: &str| mentions(source, name) || mentions(&found, name);
        let Some(next) = (0..all.len()).find(|at| !taken[*at] && calls(all[*at].0)) else { return found };
        taken[next] = true;
        found.push_str("\n\n");
        found.push_str(all[next].1.trim());
    }
}

/// Of the function that a piece of text defines.
fn name(text: &str) -> Option<&str> {
    let (_, definition) = text.split_once("fn ")?;
    definition.split_once('(').map(|(name, _)| name)
}

fn mentions(source: &str, name: &str) -> bool {
    source.match_indices(name).any(|(at, _)| {
        let own = !source[..at].ends_with(|c: char| c.is_alphanumeric() || c == '_');
        own && source[at + name.len()..].starts_with('(')
    })
}
