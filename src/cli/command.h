#pragma once

#include <cstdint>
#include <functional>
#include <limits>
#include <optional>
#include <string>
#include <utility>
#include <variant>
#include <vector>

namespace calque::cli {

// No upper bound of Option::from.
inline constexpr std::int64_t kAny = std::numeric_limits<std::int64_t>::max();

// One thing that a command takes: where its value goes, what may be said, and what --help says.
// Only program.cpp knows the library that parses them.
struct Option {
  using Target = std::variant<bool*, std::string*, int*, std::int64_t*, double*,
                              std::vector<std::string>*, std::vector<std::int64_t>*>;

  std::string names;  // "job": by its place; "--json": a flag if its target is a bool; "--quiet,-q"
  Target target;      // keeps its value where the option is not given; outlives Command::run
  std::string help;

  bool is_required = false;
  std::vector<std::string> choices = {};  // empty: anything
  std::optional<std::pair<std::int64_t, std::int64_t>> bounds = {};
  bool is_positive = false;
  bool is_alternative = false;   // exactly one of a command's alternatives is given
  std::string placeholder = {};  // what --help calls the value; "": its type
  std::string excluded = {};     // the option that cannot stand beside it

  Option required() const { return changed(&Option::is_required, true); }
  Option alternative() const { return changed(&Option::is_alternative, true); }
  Option positive() const { return changed(&Option::is_positive, true); }
  // The following two let --help show the default.
  Option among(std::vector<std::string> names_) const { return changed(&Option::choices, names_); }
  // `most` kAny only goes with `least` 0.
  Option from(std::int64_t least, std::int64_t most) const {
    return changed(&Option::bounds, std::pair(least, most));
  }
  Option called(const std::string& name) const { return changed(&Option::placeholder, name); }
  Option without(const std::string& other) const { return changed(&Option::excluded, other); }

 private:
  template <typename M, typename V>
  Option changed(M Option::*member, const V& value) const {
    Option copy = *this;
    copy.*member = value;
    return copy;
  }
};

struct Command {
  std::string name;
  std::string summary;  // its line in the program's --help
  std::vector<Option> options;
  std::string examples;  // one a line, indented by two
  std::function<void()> run;
};

// Options that several commands have.
Option job_file_option(std::string& file);
Option set_option(std::vector<std::string>& overrides, const std::string& help);
Option threads_option(int& threads);
Option progress_option(std::string& mode, const std::string& help = "auto, tty, plain, none.");
Option json_option(bool& json, const std::string& help);

}  // namespace calque::cli
