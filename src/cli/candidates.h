#pragma once

#include <string>
#include <vector>

#include "cli/command.h"

namespace calque::cli {

// A word that may stand where the user types.
struct Candidate {
  std::string word;  // ends with '=' or '.' if more of the word follows
  std::string note;  // a few words on it, or ""
};

// The words that may stand there, and files or folders if one of those may.
struct Candidates {
  enum class Files { kNone, kFolders, kAll };
  std::vector<Candidate> words;
  Files files = Files::kNone;
};

// Everything that may stand in place of the last of `words`, which are the program's arguments so
// far; the last may be empty, and candidates begin with it.
Candidates candidates(const std::vector<Command>& commands, const std::vector<std::string>& words);

// A candidate a line, as the scripts of `calque completion` read it: word, tab, note; the words
// ":file" and ":directory" ask the shell for its own.
std::string candidate_lines(const Candidates& found);

}  // namespace calque::cli
