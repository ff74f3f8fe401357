//! The texts made of the command line: completions and the manual page.

use clap::CommandFactory;
use clap_complete::Shell;

use super::Cli;
use crate::config::known_catalog_properties;

/// Completions for a shell, as a script.
pub fn completions(shell: Shell) -> Vec<u8> {
    let mut script = Vec::new();
    clap_complete::generate(shell, &mut Cli::command(), "tidegate", &mut script);
    script
}

/// The manual page, in roff: one page with a section for every command.
///
/// # Errors
/// Never in practice: the page is written to memory.
pub fn manual() -> std::io::Result<Vec<u8>> {
    let mut command = Cli::command();
    command.build();
    let main = clap_mangen::Man::new(command.clone());
    let mut page = Vec::new();
    main.render_title(&mut page)?;
    main.render_name_section(&mut page)?;
    main.render_synopsis_section(&mut page)?;
    main.render_options_section(&mut page)?;
    for sub in command.get_subcommands() {
        page.extend_from_slice(format!(".SH \"TIDEGATE {}\"\n", sub.get_name().to_uppercase()).as_bytes());
        page.extend_from_slice(manual_of(sub)?.as_bytes());
    }
    page.extend_from_slice(b".SH \"PROPERTIES OF CATALOGS\"\n");
    page.extend_from_slice(properties().as_bytes());
    page.extend_from_slice(b".SH \"EXAMPLES AND EXIT CODES\"\n");
    page.extend_from_slice(as_written(&command).as_bytes());
    Ok(page)
}

/// The part of one command, its sections one level down.
fn manual_of(command: &clap::Command) -> std::io::Result<String> {
    // What every command takes stands once, in the main part.
    let own = command.clone().mut_args(|arg| {
        let everywhere = arg.is_global_set() || arg.get_id() == "help";
        arg.hide(everywhere)
    });
    let has_arguments = own.get_arguments().any(|arg| !arg.is_hide_set());
    let man = clap_mangen::Man::new(own);
    let mut part = Vec::new();
    man.render_description_section(&mut part)?;
    man.render_synopsis_section(&mut part)?;
    if has_arguments {
        man.render_options_section(&mut part)?;
    }
    let part = String::from_utf8_lossy(&part).replace(".SH ", ".SS ");
    Ok(format!("{part}.SS EXAMPLES\n{}", as_written(command)))
}

/// What `[catalog]` takes besides its own keys.
fn properties() -> String {
    let rows = known_catalog_properties().iter().map(|(name, secret, doc)| {
        let secret = if *secret { " (a secret)" } else { "" };
        format!(".TP\n\\fB{}\\fR\n\\&{}\n", name.replace('-', "\\-"), format!("{doc}{secret}").replace('-', "\\-"))
    });
    rows.collect()
}

/// The text after a command's help, in its own lines: filled text would tear its tables apart.
fn as_written(command: &clap::Command) -> String {
    let text = command.get_after_help().map(ToString::to_string).unwrap_or_default();
    let lines: Vec<String> = text.lines().map(|line| format!("\\&{}\n", line.replace('\\', "\\e").replace('-', "\\-"))).collect();
    format!(".nf\n{}.fi\n", lines.concat())
}
