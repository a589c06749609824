//! Parser of shell scripts that finds their commands: enough of the language for the examples in help and documentation.

use std::collections::HashMap;

/// Value of variables that the script does not set.
const UNKNOWN: &str = "1";

/// Returns the simple commands of a script, each as a list of words. Quotes, backslashes, comments, redirections and assignments are
/// removed; variables are expanded to the value set in the script, else `1`. A quoted word that contains one of `programs` is
/// parsed as a script itself, as after `bash -c`; its commands follow the enclosing command.
pub fn commands(script: &str, programs: &[&str]) -> Vec<Vec<String>> {
    let mut reader = Reader { programs, variables: HashMap::new(), commands: Vec::new() };
    reader.read(script);
    reader.commands
}

/// Returns the part of `command` that starts with the name of one of `programs`, without a launcher such as `srun` before it.
pub fn call<'a>(command: &'a [String], programs: &[&str]) -> Option<&'a [String]> {
    let start = command.iter().position(|word| programs.contains(&word.as_str()))?;
    Some(&command[start..])
}

struct Reader<'a> {
    programs: &'a [&'a str],
    variables: HashMap<String, String>,
    commands: Vec<Vec<String>>,
}

#[derive(Default)]
struct Line {
    words: Vec<String>,
    word: Option<String>,
    quoted: bool,
    scripts: Vec<String>,
    is_target: bool,
}

impl Reader<'_> {
    fn read(&mut self, script: &str) {
        let mut line = Line::default();
        let mut rest = script.chars().peekable();
        while let Some(letter) = rest.next() {
            match letter {
                '\\' => match rest.next() {
                    Some('\n') | None => {}
                    Some(escaped) => line.push(escaped),
                },
                '\'' => {
                    line.quote();
                    rest.by_ref().take_while(|&inner| inner != '\'').for_each(|inner| line.push(inner));
                }
                '"' => {
                    line.quote();
                    while let Some(inner) = rest.next().filter(|&inner| inner != '"') {
                        match inner {
                            '$' if rest.peek() != Some(&'(') => line.word().push_str(&self.value(&mut rest)),
                            _ => line.push(inner),
                        }
                    }
                }
                '$' if rest.peek() == Some(&'(') => self.end(&mut line),
                '$' => {
                    // An unquoted value may consist of several words.
                    let value = self.value(&mut rest);
                    for (index, piece) in value.split(' ').enumerate() {
                        if index > 0 {
                            self.end_word(&mut line);
                        }
                        line.word().push_str(piece);
                    }
                }
                '#' if line.word.is_none() => while rest.next_if(|&inner| inner != '\n').is_some() {},
                '>' | '<' => {
                    // `2>` redirects a stream; `<(` starts another command.
                    if line.word.as_deref().is_some_and(|word| word.chars().all(|digit| digit.is_ascii_digit())) {
                        line.word = None;
                    }
                    self.end_word(&mut line);
                    line.is_target = rest.peek() != Some(&'(');
                }
                ' ' | '\t' => self.end_word(&mut line),
                '\n' | '|' | '&' | ';' | '(' | ')' => self.end(&mut line),
                _ => line.push(letter),
            }
        }
        self.end(&mut line);
    }

    /// Reads the name of a variable and returns its value.
    fn value(&self, rest: &mut std::iter::Peekable<std::str::Chars>) -> String {
        let braces = rest.next_if_eq(&'{').is_some();
        let mut name = String::new();
        while let Some(letter) = rest.next_if(|&letter| letter == '_' || letter.is_alphanumeric() || "?!@".contains(letter)) {
            name.push(letter);
        }
        if braces {
            rest.by_ref().take_while(|&letter| letter != '}').for_each(drop);
        }
        self.variables.get(&name).cloned().unwrap_or_else(|| UNKNOWN.to_owned())
    }

    fn end_word(&mut self, line: &mut Line) {
        let Some(word) = line.word.take() else { return };
        let quoted = std::mem::take(&mut line.quoted);
        if std::mem::take(&mut line.is_target) {
            return;
        }
        if let Some((name, value)) = word.split_once('=')
            && line.words.is_empty()
            && name.chars().all(|letter| letter == '_' || letter.is_alphanumeric())
        {
            self.variables.insert(name.to_owned(), value.to_owned());
            return;
        }
        if quoted && self.programs.iter().any(|program| word.contains(&format!("{program} "))) {
            line.scripts.push(word.clone());
        }
        line.words.push(word);
    }

    fn end(&mut self, line: &mut Line) {
        self.end_word(line);
        let Line { words, scripts, .. } = std::mem::take(line);
        if !words.is_empty() {
            self.commands.push(words);
        }
        scripts.iter().for_each(|script| self.read(script));
    }
}

impl Line {
    fn word(&mut self) -> &mut String {
        self.word.get_or_insert_default()
    }

    fn push(&mut self, letter: char) {
        self.word().push(letter);
    }

    fn quote(&mut self) {
        self.quoted = true;
        self.word();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quotes_comments_redirections_and_operators() {
        let script =
            "zcat a.gz | tool in - --where 'x > 1' 2> log  # not this\n\\\ntool \\\n  two && tool three; tool<(tool four)";
        let words = commands(script, &["tool"]);
        let words: Vec<String> = words.iter().map(|words| words.join("_")).collect();
        assert_eq!(words, ["zcat_a.gz", "tool_in_-_--where_x > 1", "tool_two", "tool_three", "tool", "tool_four"]);
    }

    #[test]
    fn variables_are_expanded() {
        let words = commands("run=\"tool -q run\"\nA=2 $run --n $i/3 \"${A}x\"", &["tool"]);
        assert_eq!(words, [["tool", "-q", "run", "--n", "1/3", "2x"]]);
    }

    #[test]
    fn quoted_scripts_are_parsed() {
        let words = commands("srun bash -c 'launch tool run'", &["tool"]);
        assert_eq!(call(&words[0], &["tool"]), None);
        assert_eq!(call(&words[1], &["tool"]), Some(&["tool".to_owned(), "run".to_owned()][..]));
    }
}
