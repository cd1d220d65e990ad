#include <fmt/format.h>

#include <algorithm>
#include <charconv>
#include <cmath>

#include "calque/core/names.h"
#include "text/jinja/builtins.h"
#include "text/unicode.h"

// The tables of filters and tests, as jinja2 3.1 documents them; `tojson` as transformers replaces
// it.
namespace calque::text::jinja {
namespace {

// ---- Helpers

std::string self_text(const Call& call) { return str(call.subject, call.budget); }
Value text_result(const Call& call, std::string text) {
  return text_value(std::move(text), call.budget);
}
Value iterator_of(const Call& call, List items) {
  return sequence_value(std::move(items), call.budget, Sequence::Kind::kIterator);
}
List elements(const Call& call) { return elements_of(call.subject, call.budget); }

void refuse_undefined(const Value& value) {
  if (value.is_undefined()) fail(value.undefined_reason());
}

// "function.name", "0.id", or a number.
Value attribute_by_path(const Value& owner, const Value& path, Budget& budget) {
  if (path.is_int()) return item_of(owner, path, budget);
  if (!path.is_text()) fail(fmt::format("{} as the name of an attribute", path.type_name()));
  Value value = owner;
  for (std::string_view rest = path.text(); !rest.empty();) {
    const std::size_t end = std::min(rest.find('.'), rest.size());
    const std::string part(rest.substr(0, end));
    rest.remove_prefix(std::min(end + 1, rest.size()));
    std::int64_t number = 0;
    const auto parsed = std::from_chars(part.data(), part.data() + part.size(), number);
    const bool is_number = parsed.ec == std::errc() && parsed.ptr == part.data() + part.size();
    value = item_of(value, is_number ? Value(number) : Value(part), budget);
  }
  return value;
}

Value keyed(const Value& item, const Value* attribute, bool case_sensitive, Budget& budget) {
  Value key = attribute == nullptr || attribute->is_none()
                  ? item
                  : attribute_by_path(item, *attribute, budget);
  return key.is_text() && !case_sensitive ? text_value(lower(key.text()), budget) : key;
}

// The arguments behind the first `count`.
Arguments rest_of(const Arguments& arguments, std::size_t count) {
  Arguments rest;
  rest.positional.assign(arguments.positional.begin() + static_cast<std::ptrdiff_t>(count),
                         arguments.positional.end());
  rest.named = arguments.named;
  return rest;
}

std::string name_at(const Arguments& arguments, std::size_t at, const char* what) {
  if (arguments.positional.size() <= at || !arguments.positional[at].is_text())
    fail(fmt::format("the name of a {} is missing", what));
  return arguments.positional[at].text();
}

// ---- Filters

Value default_filter(const Call& call) {
  const bool absent = call.subject.is_undefined() || (call.flag(1, false) && !call.subject.truth());
  if (!absent) return call.subject;
  return call.given(0) == nullptr ? Value(std::string()) : *call.given(0);
}

Value join(const Call& call) {
  const std::string between = call.given(0) == nullptr ? "" : str(*call.given(0), call.budget);
  std::string out;
  bool first = true;
  for (const Value& item : elements(call)) {
    if (!std::exchange(first, false)) {
      call.budget.bytes(between.size());
      out += between;
    }
    const Value* attribute = call.given(1);
    out += str(attribute == nullptr || attribute->is_none()
                   ? item
                   : attribute_by_path(item, *attribute, call.budget),
               call.budget);
  }
  return Value(std::move(out));
}

Value length(const Call& call) { return static_cast<std::int64_t>(length_of(call.subject)); }

Value trim(const Call& call) {
  const std::string text = self_text(call);
  if (call.given(0) == nullptr || call.given(0)->is_none())
    return text_result(call, std::string(stripped(text, Side::kBoth)));
  const std::string characters = call.text(0, "");
  return text_result(call, std::string(stripped(text, Side::kBoth, &characters)));
}

Value upper_filter(const Call& call) { return text_result(call, upper(self_text(call))); }
Value lower_filter(const Call& call) { return text_result(call, lower(self_text(call))); }
Value capitalize(const Call& call) { return text_result(call, capitalized(self_text(call))); }
Value string(const Call& call) {
  return call.subject.is_text() ? call.subject : text_result(call, self_text(call));
}
Value safe(const Call& call) { return Value(self_text(call), true); }
Value escape(const Call& call) {
  return call.subject.is_safe() ? call.subject : Value(html_escaped(self_text(call)), true);
}

// A word begins behind white space, '-', '(', '{', '[' or '<'.
Value title(const Call& call) {
  const std::string text = self_text(call);
  std::string out;
  bool begins = true;
  for (const std::string_view character : code_points(text)) {
    std::size_t at = 0;
    const char32_t c = next_code_point(character, at);
    const bool between =
        is_space(c) || std::string_view("-({[<").find(character) != std::string_view::npos;
    out += between ? std::string(character) : begins ? upper(character) : lower(character);
    begins = between;
  }
  return text_result(call, std::move(out));
}

Value replace(const Call& call) {
  if (call.given(0) == nullptr || call.given(1) == nullptr) fail("replace needs two strings");
  return Value(replaced(self_text(call), str(*call.given(0), call.budget),
                        str(*call.given(1), call.budget), call.integer(2, -1), call.budget));
}

Value first(const Call& call) {
  const List items = elements(call);
  return items.empty() ? Value::undefined("there is no first item") : items.front();
}
Value last(const Call& call) {
  const Sequence* list = call.subject.sequence();
  if (list != nullptr && list->kind == Sequence::Kind::kIterator) fail("last of an iterator");
  const List items = elements(call);
  return items.empty() ? Value::undefined("there is no last item") : items.back();
}

Value list(const Call& call) { return sequence_value(elements(call), call.budget); }

Value reverse(const Call& call) {
  if (call.subject.is_text())
    return slice_of(call.subject, None{}, None{}, std::int64_t{-1}, call.budget);
  List items = elements(call);
  std::reverse(items.begin(), items.end());
  return iterator_of(call, std::move(items));
}

Value map(const Call& call) {
  if (!call.subject.truth()) return iterator_of(call, {});  // none, too
  const Arguments& given = call.arguments;
  List out;
  if (given.positional.empty()) {
    const Value* attribute = nullptr;
    const Value* absent = nullptr;
    for (const auto& [name, value] : given.named) {
      if (name != "attribute" && name != "default")
        fail(fmt::format("map: the argument {} is not known", quote_name(name)));
      (name == "attribute" ? attribute : absent) = &value;
    }
    if (attribute == nullptr) fail("map needs a filter or an attribute");
    for (const Value& item : elements(call)) {
      Value value = attribute_by_path(item, *attribute, call.budget);
      out.push_back(value.is_undefined() && absent != nullptr ? *absent : std::move(value));
    }
    return iterator_of(call, std::move(out));
  }
  const std::string name = name_at(given, 0, "filter");
  const Builtin* filter = find_filter(name);
  if (filter == nullptr) fail(fmt::format("the filter {} is not known", quote_name(name)));
  const Arguments rest = rest_of(given, 1);
  for (const Value& item : elements(call))
    out.push_back(call_filter(*filter, item, rest, call.budget));
  return iterator_of(call, std::move(out));
}

// Items for which the test, or their truth, is `wanted`; with `by_attribute` that of an attribute.
Value chosen(const Call& call, bool wanted, bool by_attribute) {
  if (!call.subject.truth()) return iterator_of(call, {});  // none, too
  const Arguments& given = call.arguments;
  const std::size_t at = by_attribute ? 1 : 0;
  if (given.positional.size() < at) fail("the name of an attribute is missing");
  const TestBuiltin* test = nullptr;
  if (given.positional.size() > at) {
    const std::string name = name_at(given, at, "test");
    test = find_test(name);
    if (test == nullptr) fail(fmt::format("the test {} is not known", quote_name(name)));
  }
  const Arguments rest = rest_of(given, std::min(given.positional.size(), at + 1));
  List out;
  for (const Value& item : elements(call)) {
    call.budget.step();
    const Value value =
        by_attribute ? attribute_by_path(item, given.positional[0], call.budget) : item;
    const bool holds = test == nullptr ? value.truth() : call_test(*test, value, rest, call.budget);
    if (holds == wanted) out.push_back(item);
  }
  return iterator_of(call, std::move(out));
}
Value select(const Call& call) { return chosen(call, true, false); }
Value reject(const Call& call) { return chosen(call, false, false); }
Value selectattr(const Call& call) { return chosen(call, true, true); }
Value rejectattr(const Call& call) { return chosen(call, false, true); }

Value items(const Call& call) {
  List pairs;
  if (call.subject.is_undefined()) return iterator_of(call, {});
  const Dict* map = call.subject.dict();
  if (map == nullptr) fail(fmt::format("items of {}", call.subject.type_name()));
  for (const auto& [key, value] : map->items)
    pairs.push_back(sequence_value({key, value}, call.budget, Sequence::Kind::kTuple));
  return iterator_of(call, std::move(pairs));
}

void sort_by(std::vector<std::pair<Value, Value>>& keys_and_items, bool reverse, Budget& budget) {
  std::stable_sort(keys_and_items.begin(), keys_and_items.end(), [&](const auto& a, const auto& b) {
    return reverse ? compare(b.first, a.first, budget) < 0 : compare(a.first, b.first, budget) < 0;
  });
}

Value dictsort(const Call& call) {
  const Dict* map = call.subject.dict();
  if (map == nullptr) fail(fmt::format("dictsort of {}", call.subject.type_name()));
  const std::string by = call.text(1, "key");
  if (by != "key" && by != "value") fail("dictsort sorts by 'key' or 'value'");
  std::vector<std::pair<Value, Value>> sorted;
  for (const auto& [key, value] : map->items)
    sorted.emplace_back(keyed(by == "key" ? key : value, nullptr, call.flag(0, false), call.budget),
                        sequence_value({key, value}, call.budget, Sequence::Kind::kTuple));
  sort_by(sorted, call.flag(2, false), call.budget);
  List out;
  for (auto& [key, pair] : sorted) out.push_back(std::move(pair));
  return sequence_value(std::move(out), call.budget);
}

Value sort(const Call& call) {
  std::vector<std::pair<Value, Value>> sorted;
  if (const Value* attribute = call.given(2); attribute != nullptr && attribute->is_text() &&
                                              attribute->text().find(',') != std::string::npos)
    fail("sort by several attributes is not known");
  for (const Value& item : elements(call))
    sorted.emplace_back(keyed(item, call.given(2), call.flag(1, false), call.budget), item);
  sort_by(sorted, call.flag(0, false), call.budget);
  List out;
  for (auto& [key, item] : sorted) out.push_back(std::move(item));
  return sequence_value(std::move(out), call.budget);
}

Value unique(const Call& call) {
  List seen;
  List out;
  for (const Value& item : elements(call)) {
    Value key = keyed(item, call.given(1), call.flag(0, false), call.budget);
    if (std::any_of(seen.begin(), seen.end(),
                    [&](const Value& old) { return equal(old, key, call.budget); }))
      continue;
    seen.push_back(std::move(key));
    out.push_back(item);
  }
  return iterator_of(call, std::move(out));
}

Value extreme(const Call& call, int sign) {
  const List all = elements(call);
  if (all.empty()) return Value::undefined("there is no item");
  const auto key = [&call](const Value& item) {
    return keyed(item, call.given(1), call.flag(0, false), call.budget);
  };
  const Value* best = &all.front();
  for (const Value& item : all)
    if (sign * compare(key(item), key(*best), call.budget) < 0) best = &item;
  return *best;
}
Value min(const Call& call) { return extreme(call, 1); }
Value max(const Call& call) { return extreme(call, -1); }

Value sum(const Call& call) {
  Value total = call.given(1) == nullptr ? Value(std::int64_t{0}) : *call.given(1);
  for (const Value& item : elements(call)) {
    const Value* attribute = call.given(0);
    const bool whole = attribute == nullptr || attribute->is_none();
    total = arithmetic("+", total, whole ? item : attribute_by_path(item, *attribute, call.budget),
                       call.budget);
  }
  return total;
}

Value batch(const Call& call) {
  const std::int64_t count = call.integer(0, 0);
  if (count < 1) fail("batch needs a size of at least 1");
  List out;
  List row;
  const List all = elements(call);
  for (const Value& item : all) {
    row.push_back(item);
    if (static_cast<std::int64_t>(row.size()) < count) continue;
    out.push_back(sequence_value(std::exchange(row, {}), call.budget));
  }
  if (!row.empty()) {
    const Value* fill = call.given(1);
    while (fill != nullptr && !fill->is_none() && static_cast<std::int64_t>(row.size()) < count) {
      call.budget.bytes(sizeof(Value));
      row.push_back(*fill);
    }
    out.push_back(sequence_value(std::move(row), call.budget));
  }
  return iterator_of(call, std::move(out));
}

Value abs(const Call& call) {
  refuse_undefined(call.subject);
  if (!call.subject.is_number()) fail(fmt::format("abs of {}", call.subject.type_name()));
  if (call.subject.is_float()) return std::fabs(call.subject.number());
  if (call.subject.integer() < 0)
    return arithmetic("-", std::int64_t{0}, call.subject, call.budget);
  return call.subject.integer();
}

Value round(const Call& call) {
  refuse_undefined(call.subject);
  if (!call.subject.is_number()) fail(fmt::format("round of {}", call.subject.type_name()));
  const std::int64_t digits = call.integer(0, 0);
  const std::string method = call.text(1, "common");
  if (digits < 0 || digits > 300) fail("round to this many digits is not known");
  const double number = call.subject.number();
  if (method == "common") {
    if (!call.subject.is_float()) return call.subject.integer();
    if (!std::isfinite(number)) return number;
    return std::stod(fmt::format("{:.{}f}", number, digits));
  }
  if (method != "ceil" && method != "floor") fail("round knows common, ceil and floor");
  const double scale = std::pow(10.0, static_cast<double>(digits));
  return (method == "ceil" ? std::ceil(number * scale) : std::floor(number * scale)) / scale;
}

// Python's float(text); false if it has none.
bool parse_float(const std::string& text, double& number) {
  std::string digits(stripped(text, Side::kBoth));
  if (digits.starts_with('+')) digits.erase(0, 1);
  if (digits.empty() || digits.starts_with('+')) return false;
  const char* end = digits.data() + digits.size();
  const auto parsed = std::from_chars(digits.data(), end, number);
  return parsed.ec == std::errc() && parsed.ptr == end;
}

bool parse_integer(const std::string& text, std::int64_t& number) {
  std::string digits(stripped(text, Side::kBoth));
  if (digits.starts_with('+') && !digits.starts_with("+-")) digits.erase(0, 1);
  const char* end = digits.data() + digits.size();
  const auto parsed = std::from_chars(digits.data(), end, number);
  if (parsed.ec == std::errc::result_out_of_range) fail("an integer has more than 64 bits");
  return parsed.ec == std::errc() && parsed.ptr == end;
}

Value whole_number(double number) {
  if (!(std::fabs(number) < 9.2e18)) fail("an integer has more than 64 bits");
  return static_cast<std::int64_t>(number);
}

Value int_filter(const Call& call) {
  refuse_undefined(call.subject);
  if (call.integer(1, 10) != 10) fail("int with a base other than 10 is not known");
  if (call.subject.is_float()) return whole_number(call.subject.number());
  if (call.subject.is_number()) return call.subject.integer();
  if (call.subject.is_text()) {
    std::int64_t number = 0;
    if (parse_integer(call.subject.text(), number)) return number;
    double real = 0;
    if (parse_float(call.subject.text(), real) && std::isfinite(real)) return whole_number(real);
  }
  return call.given(0) == nullptr ? Value(std::int64_t{0}) : *call.given(0);
}

Value float_filter(const Call& call) {
  refuse_undefined(call.subject);
  if (call.subject.is_number()) return call.subject.number();
  double number = 0;
  if (call.subject.is_text() && parse_float(call.subject.text(), number)) return number;
  return call.given(0) == nullptr ? Value(0.0) : *call.given(0);
}

Value indent(const Call& call) {
  if (!call.subject.is_text()) {
    refuse_undefined(call.subject);
    fail(fmt::format("indent of {}", call.subject.type_name()));
  }
  const Value* width = call.given(0);
  if (width != nullptr && !width->is_text() && call.integer(0, 4) > 10000)
    fail("indent is too wide");
  const std::string space =
      width != nullptr && width->is_text()
          ? width->text()
          : std::string(static_cast<std::size_t>(std::max<std::int64_t>(call.integer(0, 4), 0)),
                        ' ');
  const bool blank = call.flag(2, false);
  const Value with_end = text_value(call.subject.text() + "\n", call.budget);
  const Value method = method_of(with_end, "splitlines", call.budget);
  const Value lines = method.function()->call({});
  std::string out = call.flag(1, false) ? space : "";
  const List& all = lines.sequence()->items;
  for (std::size_t i = 0; i < all.size(); ++i) {
    const std::string& line = all[i].text();
    call.budget.bytes(space.size() + line.size() + 1);
    if (i > 0) out += "\n";
    if (i > 0 && (blank || !line.empty())) out += space;
    out += line;
  }
  return Value(std::move(out));
}

Value format(const Call& call) {
  if (!call.arguments.named.empty()) fail("format with named values is not known");
  return arithmetic("%", text_value(self_text(call), call.budget),
                    sequence_value(call.arguments.positional, call.budget, Sequence::Kind::kTuple),
                    call.budget);
}

Value tojson(const Call& call) {
  JsonStyle style;
  style.ascii = call.flag(0, false);
  style.sorted = call.flag(3, false);
  if (const Value* width = call.given(1); width != nullptr && !width->is_none()) {
    style.lines = true;
    style.comma = ",";
    const std::int64_t spaces = width->is_text() ? 0 : call.integer(1, 0);
    if (spaces > 10000) fail("tojson: indent is too wide");
    style.indent =
        width->is_text()
            ? width->text()
            : std::string(static_cast<std::size_t>(std::max<std::int64_t>(spaces, 0)), ' ');
  }
  if (const Value* separators = call.given(2); separators != nullptr && !separators->is_none()) {
    const Sequence* pair = separators->sequence();
    if (pair == nullptr || pair->items.size() != 2 || !pair->items[0].is_text() ||
        !pair->items[1].is_text())
      fail("tojson: separators are two strings");
    style.comma = pair->items[0].text();
    style.colon = pair->items[1].text();
  }
  return Value(to_json(call.subject, style, call.budget));
}

constexpr Builtin kFilters[] = {
    {"abs", "", abs},
    {"batch", "linecount fill_with", batch},
    {"capitalize", "", capitalize},
    {"count", "", length},
    {"d", "default_value boolean", default_filter},
    {"default", "default_value boolean", default_filter},
    {"dictsort", "case_sensitive by reverse", dictsort},
    {"e", "", escape},
    {"escape", "", escape},
    {"first", "", first},
    {"float", "default", float_filter},
    {"format", "*", format},
    {"indent", "width first blank", indent},
    {"int", "default base", int_filter},
    {"items", "", items},
    {"join", "d attribute", join},
    {"last", "", last},
    {"length", "", length},
    {"list", "", list},
    {"lower", "", lower_filter},
    {"map", "*", map},
    {"max", "case_sensitive attribute", max},
    {"min", "case_sensitive attribute", min},
    {"reject", "*", reject},
    {"rejectattr", "*", rejectattr},
    {"replace", "old new count", replace},
    {"reverse", "", reverse},
    {"round", "precision method", round},
    {"safe", "", safe},
    {"select", "*", select},
    {"selectattr", "*", selectattr},
    {"sort", "reverse case_sensitive attribute", sort},
    {"string", "", string},
    {"sum", "attribute start", sum},
    {"title", "", title},
    {"tojson", "ensure_ascii indent separators sort_keys", tojson},
    {"trim", "chars", trim},
    {"unique", "case_sensitive attribute", unique},
    {"upper", "", upper_filter},
};

// ---- Tests

const Value& other(const Call& call) {
  if (call.given(0) == nullptr) fail("a test needs a value to compare with");
  return *call.given(0);
}

std::int64_t whole(const Value& value) {
  refuse_undefined(value);
  if (!value.is_int() && !value.is_bool())
    fail(fmt::format("a test of integers meets {}", value.type_name()));
  return value.integer();
}

bool is_defined(const Call& call) { return !call.subject.is_undefined(); }
bool is_undefined(const Call& call) { return call.subject.is_undefined(); }
bool is_none(const Call& call) { return call.subject.is_none(); }
bool is_string(const Call& call) { return call.subject.is_text(); }
bool is_number(const Call& call) { return call.subject.is_number(); }
bool is_integer(const Call& call) { return call.subject.is_int(); }
bool is_float(const Call& call) { return call.subject.is_float(); }
bool is_boolean(const Call& call) { return call.subject.is_bool(); }
bool is_true(const Call& call) { return call.subject.is_bool() && call.subject.boolean(); }
bool is_false(const Call& call) { return call.subject.is_bool() && !call.subject.boolean(); }
bool is_mapping(const Call& call) { return call.subject.dict() != nullptr; }
// True for all that has a length and elements: dicts and strings, too, and undefined values.
bool is_sequence(const Call& call) {
  const Sequence* list = call.subject.sequence();
  return call.subject.is_text() || call.subject.dict() != nullptr || call.subject.is_undefined() ||
         (list != nullptr && list->kind != Sequence::Kind::kView &&
          list->kind != Sequence::Kind::kIterator);
}
bool is_iterable(const Call& call) {
  return call.subject.is_text() || call.subject.dict() != nullptr || call.subject.is_undefined() ||
         call.subject.sequence() != nullptr || call.subject.loop() != nullptr;
}
bool is_callable(const Call& call) { return call.subject.function() != nullptr; }
bool is_odd(const Call& call) { return whole(call.subject) % 2 != 0; }
bool is_even(const Call& call) { return whole(call.subject) % 2 == 0; }
bool is_divisible(const Call& call) {
  return arithmetic("%", whole(call.subject), whole(other(call)), call.budget).integer() == 0;
}
bool is_lower(const Call& call) {
  const std::string text = self_text(call);
  return lower(text) == text && upper(text) != text;
}
bool is_upper(const Call& call) {
  const std::string text = self_text(call);
  return upper(text) == text && lower(text) != text;
}
bool is_equal(const Call& call) { return equal(call.subject, other(call), call.budget); }
bool is_unequal(const Call& call) { return !is_equal(call); }
bool is_less(const Call& call) { return compare(call.subject, other(call), call.budget) < 0; }
bool is_at_most(const Call& call) { return compare(call.subject, other(call), call.budget) <= 0; }
bool is_greater(const Call& call) { return compare(call.subject, other(call), call.budget) > 0; }
bool is_at_least(const Call& call) { return compare(call.subject, other(call), call.budget) >= 0; }
bool is_in(const Call& call) { return contains(other(call), call.subject, call.budget); }
bool is_same(const Call& call) { return call.subject.same_object(other(call)); }
bool is_filter(const Call& call) {
  return call.subject.is_text() && find_filter(call.subject.text()) != nullptr;
}
bool is_test(const Call& call) {
  return call.subject.is_text() && find_test(call.subject.text()) != nullptr;
}

constexpr TestBuiltin kTests[] = {
    {"!=", "other", is_unequal},
    {"<", "other", is_less},
    {"<=", "other", is_at_most},
    {"==", "other", is_equal},
    {">", "other", is_greater},
    {">=", "other", is_at_least},
    {"boolean", "", is_boolean},
    {"callable", "", is_callable},
    {"defined", "", is_defined},
    {"divisibleby", "num", is_divisible},
    {"eq", "other", is_equal},
    {"equalto", "other", is_equal},
    {"even", "", is_even},
    {"false", "", is_false},
    {"filter", "", is_filter},
    {"float", "", is_float},
    {"ge", "other", is_at_least},
    {"greaterthan", "other", is_greater},
    {"gt", "other", is_greater},
    {"in", "seq", is_in},
    {"integer", "", is_integer},
    {"iterable", "", is_iterable},
    {"le", "other", is_at_most},
    {"lessthan", "other", is_less},
    {"lower", "", is_lower},
    {"lt", "other", is_less},
    {"mapping", "", is_mapping},
    {"ne", "other", is_unequal},
    {"none", "", is_none},
    {"number", "", is_number},
    {"odd", "", is_odd},
    {"sameas", "other", is_same},
    {"sequence", "", is_sequence},
    {"string", "", is_string},
    {"test", "", is_test},
    {"true", "", is_true},
    {"undefined", "", is_undefined},
    {"upper", "", is_upper},
};

template <typename Table>
auto find_in(const Table& table, std::string_view name) -> decltype(&table[0]) {
  for (const auto& row : table)
    if (row.name == name) return &row;
  return nullptr;
}

}  // namespace

const Builtin* find_filter(std::string_view name) { return find_in(kFilters, name); }
const TestBuiltin* find_test(std::string_view name) { return find_in(kTests, name); }

}  // namespace calque::text::jinja
