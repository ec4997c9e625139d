//! What a session asks of whoever is in front of it: a terminal, or a test.

use crate::plan::{Plan, show};
use std::io;

/// Shows and asks. The command line's printer is one; sessions never print by themselves.
pub trait Front {
    /// Shows a text that people read (a plan, a diff), as it is.
    fn show(&mut self, text: &str);

    /// Shows a plan that is all that was asked for.
    ///
    /// # Errors
    ///
    /// Standard output's.
    fn planned(&mut self, plan: &Plan) -> io::Result<()> {
        self.show(&show::text(plan));
        Ok(())
    }

    /// Shows what an undo would do, when that is all that was asked for.
    ///
    /// # Errors
    ///
    /// Standard output's.
    fn undo_planned(&mut self, text: &str) -> io::Result<()> {
        self.show(text);
        Ok(())
    }

    /// Shows one short sentence of progress.
    fn status(&mut self, line: &str);

    /// Shows a warning.
    fn warning(&mut self, line: &str);

    /// Asks a question that is answered with yes or no; no is the default. `None` if there is nobody to ask.
    ///
    /// # Errors
    ///
    /// The terminal's.
    fn ask(&mut self, question: &str) -> io::Result<Option<bool>>;
}
