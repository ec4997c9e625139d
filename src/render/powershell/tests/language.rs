//! Scripts as trees: what 5.1 does not know, and which commands are run with what.

use super::cmdlets::{Argument, Table, Use};
use tree_sitter::{Node, Parser, Tree};

/// Variables that 5.1 does not set.
const UNKNOWN_VARIABLES: &[&str] = &[
    "$IsWindows",
    "$IsLinux",
    "$IsMacOS",
    "$IsCoreCLR",
    "$PSStyle",
    "$EnabledExperimentalFeatures",
    "$PSNativeCommandUseErrorActionPreference",
];

/// Parses a text.
pub fn parse(text: &str) -> Tree {
    let mut parser = Parser::new();
    parser
        .set_language(&tree_sitter_powershell::LANGUAGE.into())
        .unwrap();
    parser.parse(text, None).unwrap()
}

/// Visits every node, parents first.
pub fn visit<'tree>(node: Node<'tree>, see: &mut dyn FnMut(Node<'tree>)) {
    see(node);
    let mut cursor = node.walk();
    let children: Vec<Node<'_>> = node.children(&mut cursor).collect();
    for child in children {
        visit(child, see);
    }
}

/// Says everything that is wrong with a text.
pub fn check(text: &str, table: &Table) -> Vec<String> {
    let tree = parse(text);
    let mut faults = Vec::new();
    let mut functions = Vec::new();
    visit(tree.root_node(), &mut |node| {
        let written = &text[node.byte_range()];
        let line = written.lines().next().unwrap_or_default();
        if node.is_error() || node.is_missing() {
            faults.push(format!("an error node at `{line}`"));
        }
        match node.kind() {
            "function_name" => functions.push(written.to_owned()),
            "pipeline_chain_tail" | "background_operator" => {
                faults.push(format!("5.1 does not know `{written}`"));
            }
            "variable" if UNKNOWN_VARIABLES.contains(&written) => {
                faults.push(format!("5.1 does not know {written}"));
            }
            "string_literal" if written.contains('\n') => {
                faults.push(format!("a text over several lines: `{line}`"));
            }
            "expandable_string_literal" if written.contains("`u{") => {
                faults.push(format!("5.1 does not know `u{{: {written}"));
            }
            // `Get-VM &` is a command with nothing to run behind it.
            "command_invokation_operator" if node.next_sibling().is_none() => {
                faults.push("5.1 does not know `&` at the end".to_owned());
            }
            _ => {}
        }
    });
    visit(tree.root_node(), &mut |node| {
        if let Some(used) = used(node, text, table)
            && !functions.contains(&used.name)
        {
            faults.extend(table.faults(&used));
        }
    });
    faults
}

/// Returns the commands of a text with their parameters: `Get-VM -Id`.
pub fn commands(text: &str, table: &Table) -> Vec<String> {
    let tree = parse(text);
    let mut commands = Vec::new();
    visit(tree.root_node(), &mut |node| {
        if let Some(used) = used(node, text, table) {
            commands.push(used.name);
            commands.extend(used.parameters.into_iter().map(|(name, _)| format!("-{name}")));
        }
    });
    commands.sort();
    commands
}

/// Returns the tree of a text as text.
pub fn shape(text: &str) -> String {
    parse(text).root_node().to_sexp()
}

/// Returns the use that a command is; `None` for anything else, and for a block that is run (`& { … }`).
fn used(node: Node<'_>, text: &str, table: &Table) -> Option<Use> {
    if node.kind() != "command" {
        return None;
    }
    let name = node.child_by_field_name("command_name")?;
    if name.kind() == "command_name_expr" {
        return None;
    }
    let mut used = Use {
        name: text[name.byte_range()].to_owned(),
        piped: node.prev_sibling().is_some_and(|before| before.kind() == "|"),
        ..Use::default()
    };
    let elements = node.child_by_field_name("command_elements");
    let mut cursor = node.walk();
    let elements: Vec<Node<'_>> = elements
        .map(|elements| elements.children(&mut cursor).collect())
        .unwrap_or_default();
    // A switch has a value only behind a colon.
    let mut colon = false;
    let mut open = false;
    for element in elements {
        let written = &text[element.byte_range()];
        match element.kind() {
            "command_argument_sep" => colon = written.contains(':'),
            "command_parameter" => {
                used.parameters
                    .push((written.trim_start_matches('-').to_owned(), Vec::new()));
                open = true;
            }
            "redirection" => {}
            _ => {
                let switch = used
                    .parameters
                    .last()
                    .is_some_and(|(word, _)| table.is_switch(&used.name, word));
                match used.parameters.last_mut() {
                    Some((_, arguments)) if open && (colon || !switch) => {
                        arguments.push(argument(element, text))
                    }
                    _ => used.by_position = true,
                }
                open = false;
            }
        }
    }
    Some(used)
}

fn argument(node: Node<'_>, text: &str) -> Argument {
    let written = &text[node.byte_range()];
    let mut literal = node.kind() == "generic_token";
    let mut other = false;
    visit(node, &mut |node| match node.kind() {
        "string_literal" | "integer_literal" => literal = true,
        "variable"
        | "sub_expression"
        | "parenthesized_expression"
        | "script_block_expression"
        | "array_expression" => {
            other = true;
        }
        _ => {}
    });
    if literal && !other {
        Argument::Literal(written.trim_matches(['\'', '"']).to_owned())
    } else {
        Argument::Other
    }
}
