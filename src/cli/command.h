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

// No upper bound in Option::from.
inline constexpr std::int64_t kAny = std::numeric_limits<std::int64_t>::max();

// The kind of thing that a value names; shells complete it accordingly, and the manual calls it so.
enum class ValueKind { kText, kPath, kFolder, kModel, kSetting };

// One option or positional argument of a command: its target, its permitted values and its help
// text. Only program.cpp knows the library that parses them.
struct Option {
  using Target = std::variant<bool*, std::string*, int*, std::int64_t*, double*,
                              std::vector<std::string>*, std::vector<std::int64_t>*>;

  std::string names;  // "job": positional; "--json": a flag if its target is a bool; "--quiet,-q"
  Target target;      // keeps its value where the option is not given; outlives Command::run
  std::string help;

  bool is_required = false;
  std::vector<std::string> choices = {};  // empty: any value
  std::optional<std::pair<std::int64_t, std::int64_t>> bounds = {};
  bool is_positive = false;
  bool is_alternative = false;   // exactly one of a command's alternatives is given
  std::string placeholder = {};  // name of the value in --help; "": its type
  std::string excluded = {};     // the option that excludes this one
  ValueKind kind = ValueKind::kText;
  std::vector<std::string> examples = {};  // some values, for completion

  Option required() const { return changed(&Option::is_required, true); }
  Option alternative() const { return changed(&Option::is_alternative, true); }
  Option positive() const { return changed(&Option::is_positive, true); }
  // The following two make --help show the default.
  Option among(std::vector<std::string> names_) const { return changed(&Option::choices, names_); }
  // `most` may be kAny only if `least` is 0.
  Option from(std::int64_t least, std::int64_t most) const {
    return changed(&Option::bounds, std::pair(least, most));
  }
  Option called(const std::string& name) const { return changed(&Option::placeholder, name); }
  Option without(const std::string& other) const { return changed(&Option::excluded, other); }
  Option path() const { return changed(&Option::kind, ValueKind::kPath); }
  Option folder() const { return changed(&Option::kind, ValueKind::kFolder); }
  Option model() const { return changed(&Option::kind, ValueKind::kModel); }
  Option setting() const { return changed(&Option::kind, ValueKind::kSetting); }
  Option such_as(std::vector<std::string> some) const { return changed(&Option::examples, some); }

  bool is_positional() const { return names.front() != '-'; }
  bool is_flag() const { return std::holds_alternative<bool*>(target); }
  bool is_list() const {
    return std::holds_alternative<std::vector<std::string>*>(target) ||
           std::holds_alternative<std::vector<std::int64_t>*>(target);
  }

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
  std::string examples;  // one per line, indented by two
  std::function<void()> run;
};

// Options that several commands share.
Option job_file_option(std::string& file);
Option set_option(std::vector<std::string>& overrides, const std::string& help);
Option threads_option(int& threads);
Option progress_option(std::string& mode, const std::string& help = "auto, tty, plain, none.");
Option json_option(bool& json, const std::string& help);

}  // namespace calque::cli
