#include <fmt/format.h>

#include <algorithm>
#include <array>

#include "calque/core/names.h"
#include "text/jinja/builtins.h"
#include "text/unicode.h"

// The methods of strings, dicts and lists.
namespace calque::text::jinja {
namespace {

using Strings = std::vector<std::string>;

Value list_of(const Strings& parts, Budget& budget) {
  List items;
  for (const std::string& part : parts) items.push_back(text_value(part, budget));
  return sequence_value(std::move(items), budget);
}

// ---- Strings

const std::string& self(const Call& call) { return call.subject.text(); }
Value text_result(const Call& call, std::string text) {
  return text_value(std::move(text), call.budget);
}

Value strip_side(const Call& call, Side side) {
  const Value* characters = call.given(0);
  if (characters == nullptr || characters->is_none())
    return text_result(call, std::string(stripped(self(call), side)));
  const std::string set = call.text(0, "");
  return text_result(call, std::string(stripped(self(call), side, &set)));
}
Value strip(const Call& call) { return strip_side(call, Side::kBoth); }
Value lstrip(const Call& call) { return strip_side(call, Side::kLeft); }
Value rstrip(const Call& call) { return strip_side(call, Side::kRight); }

Value lower_method(const Call& call) { return text_result(call, lower(self(call))); }
Value upper_method(const Call& call) { return text_result(call, upper(self(call))); }
Value capitalize(const Call& call) { return text_result(call, capitalized(self(call))); }

// A letter behind something that is none begins a word.
Value title(const Call& call) {
  std::string out;
  bool inside = false;
  for (const std::string_view character : code_points(self(call))) {
    const bool cased = upper(character) != lower(character);
    out += !cased ? std::string(character) : inside ? lower(character) : capitalized(character);
    inside = cased;
  }
  return text_result(call, std::move(out));
}

bool has_end(const std::string& text, const std::string& part, bool start) {
  return start ? text.starts_with(part) : text.ends_with(part);
}

Value has_affix(const Call& call, bool start) {
  const Value* affix = call.given(0);
  if (affix != nullptr && affix->is_text()) return has_end(self(call), affix->text(), start);
  const Sequence* tuple = affix == nullptr ? nullptr : affix->sequence();
  if (tuple == nullptr || tuple->kind != Sequence::Kind::kTuple)
    fail(fmt::format("{}with takes a string or a tuple of them, not {}", start ? "starts" : "ends",
                     affix == nullptr ? "nothing" : affix->type_name()));
  for (const Value& one : tuple->items)
    if (one.is_text() && has_end(self(call), one.text(), start)) return true;
  return false;
}
Value startswith(const Call& call) { return has_affix(call, true); }
Value endswith(const Call& call) { return has_affix(call, false); }

Value removeprefix(const Call& call) {
  const std::string prefix = call.text(0, "");
  return text_result(
      call, self(call).starts_with(prefix) ? self(call).substr(prefix.size()) : self(call));
}
Value removesuffix(const Call& call) {
  const std::string suffix = call.text(0, "");
  return text_result(call, self(call).ends_with(suffix)
                               ? self(call).substr(0, self(call).size() - suffix.size())
                               : self(call));
}

std::string needed_text(const Call& call, std::size_t at, std::string_view function) {
  const Value* value = call.given(at);
  if (value == nullptr || !value->is_text())
    fail(value != nullptr && value->is_undefined()
             ? value->undefined_reason()
             : fmt::format("{} needs a string, not {}", function,
                           value == nullptr ? "nothing" : value->type_name()));
  return value->text();
}

Value replace(const Call& call) {
  return Value(replaced(self(call), needed_text(call, 0, "replace"),
                        needed_text(call, 1, "replace"), call.integer(2, -1), call.budget));
}

// Python's split without a separator.
Strings words_of(std::string_view text, std::int64_t most) {
  Strings parts;
  text = stripped(text, Side::kLeft);
  while (!text.empty()) {
    std::size_t end = 0;
    for (std::size_t next = 0; end < text.size(); end = next)
      if (is_space(next_code_point(text, next))) break;
    if (most >= 0 && static_cast<std::int64_t>(parts.size()) == most) {
      parts.emplace_back(text);
      break;
    }
    parts.emplace_back(text.substr(0, end));
    text = stripped(text.substr(end), Side::kLeft);
  }
  return parts;
}

Value split(const Call& call) {
  const std::int64_t most = call.integer(1, -1);
  const Value* separator = call.given(0);
  call.budget.bytes(self(call).size());
  if (separator == nullptr || separator->is_none())
    return list_of(words_of(self(call), most), call.budget);
  const std::string by = needed_text(call, 0, "split");
  if (by.empty()) fail("split has an empty separator");
  Strings parts;
  std::size_t begin = 0;
  for (std::size_t at = self(call).find(by);
       at != std::string::npos && (most < 0 || static_cast<std::int64_t>(parts.size()) < most);
       at = self(call).find(by, begin)) {
    call.budget.step();
    parts.push_back(self(call).substr(begin, at - begin));
    begin = at + by.size();
  }
  parts.push_back(self(call).substr(begin));
  return list_of(parts, call.budget);
}

Value rsplit(const Call& call) {
  const std::int64_t most = call.integer(1, -1);
  if (most < 0) return split(call);
  const std::string by = needed_text(call, 0, "rsplit");
  if (by.empty()) fail("rsplit has an empty separator");
  Strings parts;
  std::string rest = self(call);
  while (static_cast<std::int64_t>(parts.size()) < most) {
    const std::size_t at = rest.rfind(by);
    if (at == std::string::npos) break;
    call.budget.bytes(rest.size());
    parts.push_back(rest.substr(at + by.size()));
    rest.resize(at);
  }
  parts.push_back(rest);
  std::reverse(parts.begin(), parts.end());
  return list_of(parts, call.budget);
}

Value splitlines(const Call& call) {
  const bool keep = call.flag(0, false);
  Strings parts;
  std::size_t begin = 0;
  const std::string& text = self(call);
  for (std::size_t at = 0; at < text.size();) {
    const std::size_t end = at;
    const char32_t c = next_code_point(text, at);
    const bool line = (c >= 0x0A && c <= 0x0D) || (c >= 0x1C && c <= 0x1E) || c == 0x85 ||
                      c == 0x2028 || c == 0x2029;
    if (!line) continue;
    if (c == '\r' && at < text.size() && text[at] == '\n') ++at;
    parts.push_back(text.substr(begin, (keep ? at : end) - begin));
    begin = at;
  }
  if (begin < text.size()) parts.push_back(text.substr(begin));
  return list_of(parts, call.budget);
}

Value partitioned(const Call& call, bool last) {
  const std::string by = needed_text(call, 0, "partition");
  if (by.empty()) fail("partition has an empty separator");
  const std::string& text = self(call);
  const std::size_t at = last ? text.rfind(by) : text.find(by);
  std::array<std::string, 3> parts;
  if (at == std::string::npos)
    parts[last ? 2 : 0] = text;
  else
    parts = {text.substr(0, at), by, text.substr(at + by.size())};
  List items;
  for (std::string& part : parts) items.push_back(text_value(std::move(part), call.budget));
  return sequence_value(std::move(items), call.budget, Sequence::Kind::kTuple);
}
Value partition(const Call& call) { return partitioned(call, false); }
Value rpartition(const Call& call) { return partitioned(call, true); }

std::int64_t found_at(const Call& call, bool last) {
  const std::string what = needed_text(call, 0, "find");
  const std::size_t at = last ? self(call).rfind(what) : self(call).find(what);
  if (at == std::string::npos) return -1;
  return static_cast<std::int64_t>(count_code_points(std::string_view(self(call)).substr(0, at)));
}
Value find(const Call& call) { return found_at(call, false); }
Value rfind(const Call& call) { return found_at(call, true); }
Value index(const Call& call) {
  const std::int64_t at = found_at(call, false);
  if (at < 0) fail("index: the string is not there");
  return at;
}

Value count(const Call& call) {
  const std::string what = needed_text(call, 0, "count");
  if (what.empty()) return static_cast<std::int64_t>(count_code_points(self(call)) + 1);
  std::int64_t found = 0;
  for (std::size_t at = self(call).find(what); at != std::string::npos;
       at = self(call).find(what, at + what.size()))
    ++found;
  return found;
}

Value join(const Call& call) {
  if (call.given(0) == nullptr) fail("join needs what it joins");
  std::string out;
  bool first = true;
  for (const Value& part : elements_of(*call.given(0), call.budget)) {
    if (!part.is_text()) fail(fmt::format("join of strings meets {}", part.type_name()));
    if (!std::exchange(first, false)) out += self(call);
    call.budget.bytes(part.text().size() + self(call).size());
    out += part.text();
  }
  return Value(std::move(out));
}

template <typename Is>
bool all_of_text(const std::string& text, const Is& is) {
  if (text.empty()) return false;
  for (std::size_t at = 0; at < text.size();)
    if (!is(next_code_point(text, at))) return false;
  return true;
}

bool is_ascii_digit(char32_t c) { return c >= '0' && c <= '9'; }
bool is_letter(char32_t c) { return is_word_character(c) && !is_numeric(c) && c != '_'; }

Value isspace_method(const Call& call) { return all_of_text(self(call), is_space); }
// Other scripts have digits that Python tells apart in three ways.
Value isdigit_method(const Call& call) {
  if (all_of_text(self(call), [](char32_t c) { return c < 0x80; }))
    return all_of_text(self(call), is_ascii_digit);
  if (all_of_text(self(call), is_numeric)) fail("isdigit of digits beyond ASCII is not known");
  return false;
}
Value isalpha_method(const Call& call) { return all_of_text(self(call), is_letter); }
Value isalnum_method(const Call& call) {
  return all_of_text(self(call), [](char32_t c) { return is_letter(c) || is_numeric(c); });
}
Value isupper_method(const Call& call) {
  return upper(self(call)) == self(call) && lower(self(call)) != self(call);
}
Value islower_method(const Call& call) {
  return lower(self(call)) == self(call) && upper(self(call)) != self(call);
}

Value padded(const Call& call, bool left) {
  const std::int64_t width = call.integer(0, 0);
  const std::string fill = call.text(1, " ");
  if (count_code_points(fill) != 1) fail("the text that fills up is not one character");
  const auto length = static_cast<std::int64_t>(count_code_points(self(call)));
  std::string room;
  for (std::int64_t i = length; i < width; ++i) {
    call.budget.bytes(fill.size());
    room += fill;
  }
  return text_result(call, left ? room + self(call) : self(call) + room);
}
Value ljust(const Call& call) { return padded(call, false); }
Value rjust(const Call& call) { return padded(call, true); }

// "{} {0} {name}": fields without formats.
Value format(const Call& call) {
  const std::string& text = self(call);
  std::size_t next = 0;
  std::string out;
  for (std::size_t i = 0; i < text.size(); ++i) {
    const bool twice = i + 1 < text.size() && text[i + 1] == text[i];
    if ((text[i] == '{' || text[i] == '}') && twice) {
      out += text[i++];
      continue;
    }
    if (text[i] == '}') fail("format has a single }");
    if (text[i] != '{') {
      out += text[i];
      continue;
    }
    const std::size_t end = text.find('}', i);
    if (end == std::string::npos) fail("format has a single {");
    const std::string field = text.substr(i + 1, end - i - 1);
    i = end;
    if (field.find_first_of("!:.[{") != std::string::npos)
      fail(fmt::format("the format {} is not known", quote_name(field)));
    const bool number = !field.empty() && field.size() < 6 &&
                        field.find_first_not_of("0123456789") == std::string::npos;
    const Value* value = nullptr;
    if (field.empty() || number) {
      const std::size_t at = number ? std::stoul(field) : next++;
      if (at < call.arguments.positional.size()) value = &call.arguments.positional[at];
    } else {
      for (const auto& [name, given] : call.arguments.named)
        if (name == field) value = &given;
    }
    if (value == nullptr) fail(fmt::format("format has no value for {}", quote_name(field)));
    out += str(*value, call.budget);
    call.budget.bytes(out.size() / 8);
  }
  return text_result(call, std::move(out));
}

constexpr Builtin kStringMethods[] = {
    {"capitalize", "", capitalize},
    {"count", "sub", count},
    {"endswith", "suffix", endswith},
    {"find", "sub", find},
    {"format", "*", format},
    {"index", "sub", index},
    {"isalnum", "", isalnum_method},
    {"isalpha", "", isalpha_method},
    {"isdecimal", "", isdigit_method},
    {"isdigit", "", isdigit_method},
    {"islower", "", islower_method},
    {"isnumeric", "", isdigit_method},
    {"isspace", "", isspace_method},
    {"isupper", "", isupper_method},
    {"join", "iterable", join},
    {"ljust", "width fillchar", ljust},
    {"lower", "", lower_method},
    {"lstrip", "chars", lstrip},
    {"partition", "sep", partition},
    {"removeprefix", "prefix", removeprefix},
    {"removesuffix", "suffix", removesuffix},
    {"replace", "old new count", replace},
    {"rfind", "sub", rfind},
    {"rjust", "width fillchar", rjust},
    {"rpartition", "sep", rpartition},
    {"rsplit", "sep maxsplit", rsplit},
    {"rstrip", "chars", rstrip},
    {"split", "sep maxsplit", split},
    {"splitlines", "keepends", splitlines},
    {"startswith", "prefix", startswith},
    {"strip", "chars", strip},
    {"title", "", title},
    {"upper", "", upper_method},
};
constexpr std::string_view kOtherStringMethods[] = {
    "casefold", "center",      "encode",    "expandtabs", "format_map", "isascii",   "isidentifier",
    "istitle",  "isprintable", "maketrans", "rindex",     "swapcase",   "translate", "zfill"};

// ---- Dicts and lists

Value view_of(const Call& call, List items) {
  return sequence_value(std::move(items), call.budget, Sequence::Kind::kView);
}
Value keys(const Call& call) { return view_of(call, elements_of(call.subject, call.budget)); }
Value values(const Call& call) {
  List items;
  for (const auto& [key, value] : call.subject.dict()->items) items.push_back(value);
  return view_of(call, std::move(items));
}
Value items(const Call& call) {
  List pairs;
  for (const auto& [key, value] : call.subject.dict()->items)
    pairs.push_back(sequence_value({key, value}, call.budget, Sequence::Kind::kTuple));
  return view_of(call, std::move(pairs));
}
Value get(const Call& call) {
  if (call.given(0) == nullptr) fail("get needs a key");
  if (const Value* found = call.subject.dict()->find(*call.given(0), call.budget)) return *found;
  return call.given(1) == nullptr ? Value(None{}) : *call.given(1);
}
Value copy(const Call& call) { return call.subject; }

constexpr Builtin kDictMethods[] = {
    {"copy", "", copy}, {"get", "key default", get}, {"items", "", items},
    {"keys", "", keys}, {"values", "", values},
};
constexpr std::string_view kOtherDictMethods[] = {"clear",   "fromkeys",   "pop",
                                                  "popitem", "setdefault", "update"};

Value count_in_list(const Call& call) {
  if (call.given(0) == nullptr) fail("count needs a value");
  std::int64_t found = 0;
  for (const Value& item : call.subject.sequence()->items)
    found += equal(item, *call.given(0), call.budget) ? 1 : 0;
  return found;
}
Value index_in_list(const Call& call) {
  if (call.given(0) == nullptr) fail("index needs a value");
  const List& list = call.subject.sequence()->items;
  for (std::size_t i = 0; i < list.size(); ++i)
    if (equal(list[i], *call.given(0), call.budget)) return static_cast<std::int64_t>(i);
  fail("index: the value is not in the list");
}

constexpr Builtin kListMethods[] = {
    {"copy", "", copy},
    {"count", "value", count_in_list},
    {"index", "value", index_in_list},
};
constexpr std::string_view kOtherListMethods[] = {"append", "clear",  "extend",  "insert",
                                                  "pop",    "remove", "reverse", "sort"};

template <typename Methods, typename Others>
Value method_in(const Methods& methods, const Others& others, const Value& owner,
                std::string_view name, bool changes, Budget& budget) {
  for (const Builtin& method : methods) {
    if (method.name != name) continue;
    budget.bytes(sizeof(Function));
    return std::make_shared<const Function>(
        Function{std::string(name), [owner, &method, &budget](const Arguments& arguments) {
                   return call_filter(method, owner, arguments, budget);
                 }});
  }
  if (std::find(std::begin(others), std::end(others), name) == std::end(others))
    return Value::undefined(fmt::format("{} has no {}", owner.type_name(), quote_name(name)));
  const std::string message =
      changes ? fmt::format("{} would change {}; chat templates may not change values", name,
                            owner.type_name())
              : fmt::format("the method {} of {} is not known", name, owner.type_name());
  return std::make_shared<const Function>(
      Function{std::string(name), [message](const Arguments&) -> Value { fail(message); }});
}

}  // namespace

Value method_of(const Value& owner, std::string_view name, Budget& budget) {
  if (owner.is_text())
    return method_in(kStringMethods, kOtherStringMethods, owner, name, false, budget);
  if (owner.dict() != nullptr)
    return method_in(kDictMethods, kOtherDictMethods, owner, name, true, budget);
  if (const Sequence* list = owner.sequence();
      list != nullptr && list->kind <= Sequence::Kind::kTuple)
    return method_in(kListMethods, kOtherListMethods, owner, name, true, budget);
  return Value::undefined(fmt::format("{} has no {}", owner.type_name(), quote_name(name)));
}

}  // namespace calque::text::jinja
