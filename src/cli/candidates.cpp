#include "cli/candidates.h"

#include <fmt/format.h>

#include <algorithm>
#include <set>
#include <string_view>

#include "calque/config/job_file.h"
#include "calque/io/hub_cache.h"

namespace calque::cli {
namespace {

using Words = std::vector<std::string>;

// "--quiet,-q" as two names.
Words split(std::string_view text, char separator) {
  Words parts;
  for (;;) {
    const std::size_t at = text.find(separator);
    parts.emplace_back(text.substr(0, at));
    if (at == std::string_view::npos) return parts;
    text.remove_prefix(at + 1);
  }
}

bool is_option(const std::string& word) { return word.size() > 1 && word.front() == '-'; }

const Option* option_named(const Command& command, const std::string& name) {
  for (const Option& option : command.options)
    if (!option.is_positional())
      for (const std::string& own : split(option.names, ','))
        if (own == name) return &option;
  return nullptr;
}

// The positional argument that comes after `before` others; a list takes all that follow.
const Option* positional_after(const Command& command, std::size_t before) {
  for (const Option& option : command.options) {
    if (!option.is_positional()) continue;
    if (before == 0 || option.is_list()) return &option;
    --before;
  }
  return nullptr;
}

// The meaning of a command's words before the one that is being typed.
struct Given {
  std::set<const Option*> options;
  std::size_t positionals = 0;
  const Option* waiting = nullptr;  // an option whose value comes next
};

Given read(const Command& command, const Words& words) {
  Given given;
  for (const std::string& word : words) {
    if (given.waiting != nullptr) {
      given.waiting = nullptr;
    } else if (!is_option(word)) {
      ++given.positionals;
    } else if (const Option* option = option_named(command, word.substr(0, word.find('=')))) {
      given.options.insert(option);
      const bool has_value = option->is_flag() || word.find('=') != std::string::npos;
      given.waiting = has_value ? nullptr : option;
    }
  }
  return given;
}

// ---- Settings of the job file: KEY.PATH=VALUE

// "export.0.type" agrees with "export.*.type".
bool agrees(const std::string& part, const std::string& wanted) {
  if (wanted != "*") return part == wanted;
  return !part.empty() && part.find_first_not_of("0123456789") == std::string::npos;
}

// The next part of the keys that agree with the parts before it. An index that is not typed is 0.
void add_key_parts(const std::string& typed, std::vector<Candidate>& found) {
  const Words parts = split(typed, '.');
  const std::size_t last = parts.size() - 1;
  const std::string before = typed.substr(0, typed.size() - parts[last].size());
  for (const config::SectionFacts& section : config::sections_of_job_file())
    for (const config::KeyFacts& key : section.keys) {
      const Words path = split(key.path, '.');
      if (path.size() <= last || !std::equal(parts.begin(), parts.end() - 1, path.begin(), agrees))
        continue;
      const bool is_index = path[last] == "*";
      const std::string part = !is_index                         ? path[last]
                               : agrees(parts[last], path[last]) ? parts[last]
                                                                 : "0";
      if (path.size() == parts.size())
        found.push_back({before + part + "=", key.doc});
      else
        found.push_back({before + part + ".", section.doc});
    }
}

void add_values_of_key(const std::string& name, std::vector<Candidate>& found) {
  const Words parts = split(name, '.');
  for (const config::SectionFacts& section : config::sections_of_job_file())
    for (const config::KeyFacts& key : section.keys)
      if (std::ranges::equal(parts, split(key.path, '.'), agrees))
        for (const std::string& value : key.values) found.push_back({name + "=" + value, ""});
}

void add_settings(const std::string& typed, std::vector<Candidate>& found) {
  const std::size_t equals = typed.find('=');
  if (equals == std::string::npos) return add_key_parts(typed, found);
  add_values_of_key(typed.substr(0, equals), found);
}

// ---- Values

void add_words(const Words& words, std::vector<Candidate>& found) {
  for (const std::string& word : words) found.push_back({word, ""});
}

Candidates values_of(const Option& option, const std::string& typed) {
  Candidates found;
  add_words(option.choices, found.words);
  add_words(option.examples, found.words);
  if (option.kind == ValueKind::kSetting) add_settings(typed, found.words);
  if (option.kind == ValueKind::kModel) add_words(io::models_in_hub_cache(), found.words);
  if (option.kind == ValueKind::kModel || option.kind == ValueKind::kPath)
    found.files = Candidates::Files::kAll;
  if (option.kind == ValueKind::kFolder) found.files = Candidates::Files::kFolders;
  return found;
}

void add_options(const Command& command, const Given& given, std::vector<Candidate>& found) {
  for (const Option& option : command.options) {
    if (option.is_positional() || (given.options.contains(&option) && !option.is_list())) continue;
    for (const std::string& name : split(option.names, ','))
      if (name.starts_with("--")) found.push_back({name, option.help});
  }
  found.push_back({"--help", "Print help and exit."});
}

Candidates in_command(const Command& command, const Words& words) {
  const std::string& typed = words.back();
  const Given given = read(command, {words.begin(), words.end() - 1});
  if (given.waiting != nullptr) return values_of(*given.waiting, typed);
  Candidates found;
  if (!typed.empty() && typed.front() == '-') {
    const std::size_t equals = typed.find('=');
    const Option* option =
        equals == std::string::npos ? nullptr : option_named(command, typed.substr(0, equals));
    if (option == nullptr) {
      add_options(command, given, found.words);
    } else {
      found = values_of(*option, typed.substr(equals + 1));
      for (Candidate& candidate : found.words)
        candidate.word.insert(0, typed.substr(0, equals + 1));
    }
  } else if (const Option* positional = positional_after(command, given.positionals)) {
    found = values_of(*positional, typed);
  }
  return found;
}

Candidates commands_and_options(const std::vector<Command>& commands, const std::string& typed) {
  Candidates found;
  for (const Command& command : commands) found.words.push_back({command.name, command.summary});
  if (!typed.empty())
    for (const char* option : {"--help", "--version"}) found.words.push_back({option, ""});
  return found;
}

// Only those that begin as typed, each once.
void narrow(const std::string& typed, std::vector<Candidate>& words) {
  std::set<std::string> seen;
  std::erase_if(words, [&](const Candidate& candidate) {
    return !candidate.word.starts_with(typed) || !seen.insert(candidate.word).second;
  });
}

// The first sentence, without the marks of Markdown.
std::string short_note(std::string text) {
  text = text.substr(0, text.find(". "));
  std::erase_if(text, [](char c) { return c == '`' || c == '\n' || c == '\t'; });
  return text;
}

}  // namespace

Candidates candidates(const std::vector<Command>& commands, const Words& words) {
  if (words.empty()) return {};
  const auto command = std::ranges::find(commands, words.front(), &Command::name);
  Candidates found;
  if (words.size() == 1)
    found = commands_and_options(commands, words.front());
  else if (command != commands.end())
    found = in_command(*command, {words.begin() + 1, words.end()});
  narrow(words.back(), found.words);
  return found;
}

std::string candidate_lines(const Candidates& found) {
  std::string lines;
  for (const Candidate& candidate : found.words)
    lines += fmt::format("{}\t{}\n", candidate.word, short_note(candidate.note));
  if (found.files == Candidates::Files::kAll) lines += ":file\t\n";
  if (found.files == Candidates::Files::kFolders) lines += ":directory\t\n";
  return lines;
}

}  // namespace calque::cli
