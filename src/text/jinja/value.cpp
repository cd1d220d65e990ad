#include "text/jinja/value.h"

#include <fmt/format.h>
#include <utf8proc.h>

#include <algorithm>
#include <charconv>
#include <cmath>

#include "text/unicode.h"

namespace calque::text::jinja {

void fail(std::string message) { throw Failure{std::move(message)}; }

void Budget::step(std::size_t count) {
  if (count > steps_) fail("takes too many steps");
  steps_ -= count;
}

void Budget::bytes(std::size_t count) {
  if (count > bytes_) fail("makes too much text");
  bytes_ -= count;
}

// ---- Values

namespace {

constexpr std::size_t kDeepestValue = 200;

std::size_t deeper(std::size_t depth) {
  if (depth >= kDeepestValue)
    fail(fmt::format("nests lists and dicts deeper than {}", kDeepestValue));
  return depth + 1;
}

}  // namespace

Value Value::undefined(std::string reason) {
  Value value;
  value.held_ = Undefined{std::make_shared<const std::string>(std::move(reason))};
  return value;
}

std::int64_t Value::integer() const {
  return is_bool() ? std::int64_t{boolean()} : std::get<std::int64_t>(held_);
}

double Value::number() const {
  return is_float() ? std::get<double>(held_) : static_cast<double>(integer());
}

bool Value::truth() const {
  if (is_undefined() || is_none()) return false;
  if (is_number()) return number() != 0;
  if (is_text()) return !text().empty();
  if (const Sequence* list = sequence())
    return list->kind == Sequence::Kind::kIterator || !list->items.empty();
  if (const Dict* map = dict()) return !map->items.empty();
  return true;
}

std::size_t Value::depth() const {
  if (const Sequence* list = sequence()) return list->depth;
  if (const Dict* map = dict()) return map->depth;
  if (const Loop* state = loop()) return state->depth;
  return 0;
}

std::string Value::type_name() const {
  if (is_undefined()) return "undefined";
  if (is_none()) return "none";
  if (is_bool()) return "a boolean";
  if (is_int()) return "an integer";
  if (is_float()) return "a float";
  if (is_text()) return "a string";
  if (dict() != nullptr) return "a dict";
  if (const Sequence* list = sequence()) {
    constexpr const char* kNames[] = {"a list", "a tuple", "a range", "a view of a dict",
                                      "an iterator"};
    return kNames[static_cast<std::size_t>(list->kind)];
  }
  if (space() != nullptr) return "a namespace";
  return loop() != nullptr ? "a loop" : "a function";
}

std::string Value::undefined_reason() const {
  const auto* undefined = std::get_if<Undefined>(&held_);
  return undefined == nullptr || undefined->reason == nullptr ? "a value is undefined"
                                                              : *undefined->reason;
}

bool Value::same_object(const Value& other) const {
  if (held_.index() != other.held_.index()) return false;
  if (is_none()) return true;
  if (is_number()) return number() == other.number();
  if (is_text()) return std::get<Text>(held_).utf8 == std::get<Text>(other.held_).utf8;
  if (const Sequence* list = sequence()) return list == other.sequence();
  if (const Dict* map = dict()) return map == other.dict();
  if (Namespace* names = space()) return names == other.space();
  return false;
}

const Value* Dict::find(std::string_view key) const {
  for (const auto& [name, value] : items)
    if (name.is_text() && name.text() == key) return &value;
  return nullptr;
}

const Value* Dict::find(const Value& key, Budget& budget) const {
  if (key.is_text()) return find(key.text());
  if (key.dict() != nullptr ||
      (key.sequence() != nullptr && key.sequence()->kind == Sequence::Kind::kList))
    fail(fmt::format("{} is not a key", key.type_name()));
  for (const auto& [name, value] : items)
    if (equal(name, key, budget)) return &value;
  return nullptr;
}

const Value* Namespace::find(std::string_view name) const {
  for (const auto& [key, value] : attributes)
    if (key == name) return &value;
  return nullptr;
}

void Namespace::set(std::string_view name, Value value) {
  if (name.starts_with('_'))
    fail(fmt::format("the attribute '{}' of a namespace begins with an underscore", name));
  for (auto& [key, old] : attributes) {
    if (key != name) continue;
    old = std::move(value);
    return;
  }
  attributes.emplace_back(name, std::move(value));
}

Value text_value(std::string text, Budget& budget) {
  budget.bytes(text.size());
  return Value(std::move(text));
}

Value sequence_value(List items, Budget& budget, Sequence::Kind kind) {
  budget.bytes(items.size() * sizeof(Value));
  std::size_t depth = 0;
  for (const Value& item : items) depth = std::max(depth, item.depth());
  depth = deeper(depth);
  return std::make_shared<const Sequence>(Sequence{kind, std::move(items), depth});
}

Value dict_value(std::vector<std::pair<Value, Value>> items, Budget& budget) {
  budget.bytes(items.size() * 2 * sizeof(Value));
  std::size_t depth = 0;
  for (const auto& [key, value] : items) depth = std::max({depth, key.depth(), value.depth()});
  depth = deeper(depth);
  return std::make_shared<const Dict>(Dict{std::move(items), depth});
}

Value value_of(const io::Json& json, Budget& budget) {
  if (json.is_null()) return None{};
  if (json.is_bool()) return json.boolean();
  if (json.is_integer()) return json.integer();
  if (json.is_number()) return json.number();
  if (json.is_string()) return text_value(json.string(), budget);
  if (json.is_array()) {
    List items;
    items.reserve(json.size());
    for (const io::Json& element : json.elements()) items.push_back(value_of(element, budget));
    return sequence_value(std::move(items), budget);
  }
  std::vector<std::pair<Value, Value>> items;
  items.reserve(json.size());
  for (const io::Json::Member& member : json.members())
    items.emplace_back(text_value(member.name, budget), value_of(member.value, budget));
  return dict_value(std::move(items), budget);
}

// ---- As text

std::string float_repr(double number) {
  if (std::isnan(number)) return "nan";
  if (std::isinf(number)) return number > 0 ? "inf" : "-inf";
  char buffer[40];
  const auto end =
      std::to_chars(buffer, buffer + sizeof buffer, number, std::chars_format::scientific);
  const std::string text(buffer, end.ptr);
  const std::size_t e = text.find('e');
  const int exponent = std::stoi(text.substr(e + 1));
  if (exponent < -4 || exponent >= 16) return text;
  const bool negative = text[0] == '-';
  std::string digits;
  for (const char c : text.substr(0, e))
    if (c >= '0' && c <= '9') digits += c;
  std::string out;
  if (exponent < 0) {
    out = "0." + std::string(static_cast<std::size_t>(-exponent - 1), '0') + digits;
  } else {
    const auto whole = static_cast<std::size_t>(exponent) + 1;
    if (digits.size() < whole) digits.append(whole - digits.size(), '0');
    out = digits.substr(0, whole) + "." + (digits.size() > whole ? digits.substr(whole) : "0");
  }
  return negative ? "-" + out : out;
}

namespace {

bool is_printable(char32_t c) {
  if (c == ' ') return true;
  switch (utf8proc_category(static_cast<utf8proc_int32_t>(c))) {
    case UTF8PROC_CATEGORY_CN:
    case UTF8PROC_CATEGORY_CC:
    case UTF8PROC_CATEGORY_CF:
    case UTF8PROC_CATEGORY_CS:
    case UTF8PROC_CATEGORY_CO:
    case UTF8PROC_CATEGORY_ZS:
    case UTF8PROC_CATEGORY_ZL:
    case UTF8PROC_CATEGORY_ZP:
      return false;
    default:
      return true;
  }
}

std::string escaped_code_point(char32_t c) {
  const auto number = static_cast<std::uint32_t>(c);
  if (number < 0x100) return fmt::format("\\x{:02x}", number);
  return number < 0x10000 ? fmt::format("\\u{:04x}", number) : fmt::format("\\U{:08x}", number);
}

std::string quoted(const std::string& text) {
  const bool single = text.find('\'') != std::string::npos && text.find('"') == std::string::npos;
  const char quote = single ? '"' : '\'';
  std::string out(1, quote);
  for (std::size_t at = 0; at < text.size();) {
    const std::size_t begin = at;
    const char32_t c = next_code_point(text, at);
    if (c == U'\n')
      out += "\\n";
    else if (c == U'\r')
      out += "\\r";
    else if (c == U'\t')
      out += "\\t";
    else if (c == U'\\' || c == static_cast<char32_t>(quote))
      out += {'\\', static_cast<char>(c)};
    else if (!is_printable(c))
      out += escaped_code_point(c);
    else
      out += text.substr(begin, at - begin);
  }
  return out + quote;
}

class Writer {
 public:
  explicit Writer(Budget& budget) : budget_(budget) {}

  void write(const Value& value) {
    if (const Sequence* list = value.sequence()) return write_sequence(*list);
    if (const Dict* map = value.dict()) return write_dict(*map);
    put(value.is_text() ? quoted(value.text()) : plain(value));
  }
  std::string take() { return std::move(out_); }

  static std::string plain(const Value& value) {
    if (value.is_undefined()) return "Undefined";
    if (value.is_none()) return "None";
    if (value.is_bool()) return value.boolean() ? "True" : "False";
    if (value.is_int()) return std::to_string(value.integer());
    if (value.is_float()) return float_repr(value.number());
    fail(fmt::format("prints {}", value.type_name()));
  }

 private:
  void put(std::string_view text) {
    budget_.bytes(text.size());
    budget_.step();
    out_ += text;
  }

  void write_sequence(const Sequence& list) {
    const bool tuple = list.kind == Sequence::Kind::kTuple;
    if (!tuple && list.kind != Sequence::Kind::kList)
      fail(fmt::format(
          "prints {}",
          Value(std::make_shared<const Sequence>(Sequence{list.kind, {}, 1})).type_name()));
    put(tuple ? "(" : "[");
    for (std::size_t i = 0; i < list.items.size(); ++i) {
      if (i > 0) put(", ");
      write(list.items[i]);
    }
    put(tuple && list.items.size() == 1 ? ",)" : tuple ? ")" : "]");
  }

  void write_dict(const Dict& map) {
    put("{");
    for (std::size_t i = 0; i < map.items.size(); ++i) {
      if (i > 0) put(", ");
      write(map.items[i].first);
      put(": ");
      write(map.items[i].second);
    }
    put("}");
  }

  Budget& budget_;
  std::string out_;
};

}  // namespace

std::string repr(const Value& value, Budget& budget) {
  Writer writer(budget);
  writer.write(value);
  return writer.take();
}

std::string str(const Value& value, Budget& budget) {
  if (value.is_text()) {
    budget.bytes(value.text().size());
    return value.text();
  }
  if (value.is_undefined()) return "";
  return repr(value, budget);
}

namespace {

class JsonWriter {
 public:
  JsonWriter(const JsonStyle& style, Budget& budget) : style_(style), budget_(budget) {}

  void write(const Value& value, std::size_t level) {
    if (const Sequence* list = value.sequence();
        list != nullptr &&
        (list->kind == Sequence::Kind::kList || list->kind == Sequence::Kind::kTuple)) {
      return write_all("[", "]", list->items.size(), level,
                       [&](std::size_t i) { write(list->items[i], level + 1); });
    }
    if (const Dict* map = value.dict()) {
      std::vector<std::size_t> order(map->items.size());
      for (std::size_t i = 0; i < order.size(); ++i) order[i] = i;
      if (style_.sorted)
        std::stable_sort(order.begin(), order.end(), [&](std::size_t a, std::size_t b) {
          return compare(map->items[a].first, map->items[b].first, budget_) < 0;
        });
      return write_all("{", "}", order.size(), level, [&](std::size_t i) {
        const auto& [key, member] = map->items[order[i]];
        put(string(key.is_text() ? key.text() : scalar(key)));
        put(style_.colon);
        write(member, level + 1);
      });
    }
    put(value.is_text() ? string(value.text()) : scalar(value));
  }
  std::string take() { return std::move(out_); }

 private:
  void put(std::string_view text) {
    budget_.bytes(text.size());
    budget_.step();
    out_ += text;
  }

  void line(std::size_t level) {
    if (!style_.lines) return;
    put("\n");
    for (std::size_t i = 0; i < level; ++i) put(style_.indent);
  }

  template <typename WriteOne>
  void write_all(const char* open, const char* close, std::size_t count, std::size_t level,
                 const WriteOne& write_one) {
    put(open);
    for (std::size_t i = 0; i < count; ++i) {
      if (i > 0) put(style_.comma);
      line(level + 1);
      write_one(i);
    }
    if (count > 0) line(level);
    put(close);
  }

  static std::string scalar(const Value& value) {
    if (value.is_none()) return "null";
    if (value.is_bool()) return value.boolean() ? "true" : "false";
    if (value.is_int()) return std::to_string(value.integer());
    if (!value.is_float())
      fail(value.is_undefined() ? "tojson: " + value.undefined_reason()
                                : fmt::format("tojson: {} has no JSON", value.type_name()));
    const double number = value.number();
    if (std::isnan(number)) return "NaN";
    if (std::isinf(number)) return number > 0 ? "Infinity" : "-Infinity";
    return float_repr(number);
  }

  std::string string(const std::string& text) const {
    std::string out = "\"";
    for (std::size_t at = 0; at < text.size();) {
      const std::size_t begin = at;
      const char32_t c = next_code_point(text, at);
      if (c == U'"' || c == U'\\')
        out += {'\\', static_cast<char>(c)};
      else if (c == U'\n')
        out += "\\n";
      else if (c == U'\r')
        out += "\\r";
      else if (c == U'\t')
        out += "\\t";
      else if (c == U'\b')
        out += "\\b";
      else if (c == U'\f')
        out += "\\f";
      else if (c < 0x20 || (style_.ascii && c > 0x7E && c < 0x10000))
        out += fmt::format("\\u{:04x}", static_cast<std::uint32_t>(c));
      else if (style_.ascii && c >= 0x10000)
        out += fmt::format("\\u{:04x}\\u{:04x}",
                           0xD800 + ((static_cast<std::uint32_t>(c) - 0x10000) >> 10),
                           0xDC00 + ((static_cast<std::uint32_t>(c) - 0x10000) & 0x3FF));
      else
        out += text.substr(begin, at - begin);
    }
    return out + "\"";
  }

  const JsonStyle& style_;
  Budget& budget_;
  std::string out_;
};

}  // namespace

std::string to_json(const Value& value, const JsonStyle& style, Budget& budget) {
  JsonWriter writer(style, budget);
  writer.write(value, 0);
  return writer.take();
}

// ---- Comparisons

namespace {

bool is_set_like(const Sequence& list) { return list.kind == Sequence::Kind::kView; }

bool equal_lists(const Sequence& a, const Sequence& b, Budget& budget) {
  if (a.kind != b.kind || a.items.size() != b.items.size()) return false;
  if (a.kind == Sequence::Kind::kIterator || is_set_like(a)) return &a == &b;
  for (std::size_t i = 0; i < a.items.size(); ++i)
    if (!equal(a.items[i], b.items[i], budget)) return false;
  return true;
}

bool equal_dicts(const Dict& a, const Dict& b, Budget& budget) {
  if (a.items.size() != b.items.size()) return false;
  for (const auto& [key, value] : a.items) {
    const Value* other = b.find(key, budget);
    if (other == nullptr || !equal(value, *other, budget)) return false;
  }
  return true;
}

template <typename T>
int order_of(const T& a, const T& b) {
  return a < b ? -1 : b < a ? 1 : 0;
}

}  // namespace

bool equal(const Value& a, const Value& b, Budget& budget) {
  budget.step();
  if (a.is_number() && b.is_number())
    return a.is_float() || b.is_float() ? a.number() == b.number() : a.integer() == b.integer();
  if (a.is_text() && b.is_text()) return a.text() == b.text();
  if (a.is_undefined() || a.is_none())
    return a.is_undefined() == b.is_undefined() && a.is_none() == b.is_none();
  if (a.sequence() != nullptr && b.sequence() != nullptr)
    return a.same_object(b) || equal_lists(*a.sequence(), *b.sequence(), budget);
  if (a.dict() != nullptr && b.dict() != nullptr)
    return a.same_object(b) || equal_dicts(*a.dict(), *b.dict(), budget);
  return a.same_object(b);
}

int compare(const Value& a, const Value& b, Budget& budget) {
  budget.step();
  if (a.is_number() && b.is_number())
    return a.is_float() || b.is_float() ? order_of(a.number(), b.number())
                                        : order_of(a.integer(), b.integer());
  // UTF-8's bytes have the order of the code points.
  if (a.is_text() && b.is_text()) return order_of(a.text(), b.text());
  const Sequence* left = a.sequence();
  const Sequence* right = b.sequence();
  if (left != nullptr && right != nullptr && left->kind == right->kind &&
      left->kind <= Sequence::Kind::kTuple) {
    for (std::size_t i = 0; i < std::min(left->items.size(), right->items.size()); ++i)
      if (!equal(left->items[i], right->items[i], budget))
        return compare(left->items[i], right->items[i], budget);
    return order_of(left->items.size(), right->items.size());
  }
  for (const Value* value : {&a, &b})
    if (value->is_undefined()) fail(value->undefined_reason());
  fail(fmt::format("{} and {} have no order", a.type_name(), b.type_name()));
}

bool contains(const Value& container, const Value& item, Budget& budget) {
  if (container.is_text()) {
    if (!item.is_text())
      fail(item.is_undefined() ? item.undefined_reason()
                               : fmt::format("looks for {} in a string", item.type_name()));
    budget.step(1 + container.text().size() / 64);
    return container.text().find(item.text()) != std::string::npos;
  }
  if (const Dict* map = container.dict()) return map->find(item, budget) != nullptr;
  const List items = elements_of(container, budget);
  return std::any_of(items.begin(), items.end(),
                     [&](const Value& element) { return equal(element, item, budget); });
}

List elements_of(const Value& value, Budget& budget) {
  if (value.is_undefined()) return {};
  List items;
  if (const Sequence* list = value.sequence()) {
    budget.bytes(list->items.size() * sizeof(Value));
    if (list->kind != Sequence::Kind::kIterator) return list->items;
    if (!std::exchange(list->walked, true)) items = list->items;
    return items;
  }
  if (const Dict* map = value.dict()) {
    budget.bytes(map->items.size() * sizeof(Value));
    for (const auto& [key, member] : map->items) items.push_back(key);
    return items;
  }
  if (!value.is_text()) fail(fmt::format("walks over {}", value.type_name()));
  budget.bytes(value.text().size() * (sizeof(Value) + sizeof(std::string)));
  for (const std::string_view character : code_points(value.text()))
    items.emplace_back(std::string(character));
  return items;
}

std::size_t length_of(const Value& value) {
  if (value.is_undefined()) return 0;
  if (value.is_text()) return count_code_points(value.text());
  if (const Dict* map = value.dict()) return map->items.size();
  const Sequence* list = value.sequence();
  if (list == nullptr || list->kind == Sequence::Kind::kIterator)
    fail(fmt::format("{} has no length", value.type_name()));
  return list->items.size();
}

// ---- Text by code points

std::size_t count_code_points(std::string_view text) {
  return static_cast<std::size_t>(
      std::count_if(text.begin(), text.end(), [](char c) { return (c & 0xC0) != 0x80; }));
}

std::vector<std::string_view> code_points(std::string_view text) {
  std::vector<std::string_view> characters;
  for (std::size_t at = 0; at < text.size();) {
    const std::size_t begin = at;
    next_code_point(text, at);
    characters.push_back(text.substr(begin, at - begin));
  }
  return characters;
}

bool is_space(char32_t code_point) {
  return is_white_space(code_point) || (code_point >= 0x1C && code_point <= 0x1F);
}

std::string_view stripped(std::string_view text, Side side, const std::string* characters) {
  std::vector<char32_t> set;
  if (characters != nullptr)
    for (std::size_t at = 0; at < characters->size();)
      set.push_back(next_code_point(*characters, at));
  const auto goes = [&](char32_t c) {
    return characters == nullptr ? is_space(c) : std::find(set.begin(), set.end(), c) != set.end();
  };
  std::size_t begin = 0;
  std::size_t end = text.size();
  while (side != Side::kRight && begin < end) {
    std::size_t next = begin;
    if (!goes(next_code_point(text, next))) break;
    begin = next;
  }
  while (side != Side::kLeft && end > begin && goes(last_code_point(text, end))) {
    --end;
    while (end > begin && (text[end] & 0xC0) == 0x80) --end;
  }
  return text.substr(begin, end - begin);
}

std::string upper(std::string_view text) {
  std::string out;
  for (std::size_t at = 0; at < text.size();) {
    const char32_t c = next_code_point(text, at);
    if (c == 0xDF)
      out += "SS";
    else
      append_code_point(out,
                        static_cast<char32_t>(utf8proc_toupper(static_cast<utf8proc_int32_t>(c))));
  }
  return out;
}

std::string lower(std::string_view text) { return lower_case(text); }

std::string capitalized(std::string_view text) {
  if (text.empty()) return "";
  std::size_t at = 0;
  const char32_t c = next_code_point(text, at);
  std::string out;
  append_code_point(out, static_cast<char32_t>(utf8proc_totitle(static_cast<utf8proc_int32_t>(c))));
  return out + lower(text.substr(at));
}

std::string replaced(const std::string& text, const std::string& from, const std::string& to,
                     std::int64_t most, Budget& budget) {
  std::string out;
  std::size_t begin = 0;
  const auto put = [&](std::string_view part) {
    budget.bytes(part.size());
    budget.step();
    out += part;
  };
  if (from.empty()) {
    // Python puts `to` before every character and at the end.
    for (const std::string_view character : code_points(text)) {
      if (most-- != 0)
        put(to);
      else
        most = 0;
      put(character);
    }
    if (most != 0) put(to);
    return out;
  }
  for (std::size_t at = text.find(from); at != std::string::npos && most != 0;
       at = text.find(from, begin), --most) {
    put(std::string_view(text).substr(begin, at - begin));
    put(to);
    begin = at + from.size();
  }
  put(std::string_view(text).substr(begin));
  return out;
}

std::string html_escaped(const std::string& text) {
  std::string out;
  for (const char c : text) {
    switch (c) {
      case '&':
        out += "&amp;";
        break;
      case '<':
        out += "&lt;";
        break;
      case '>':
        out += "&gt;";
        break;
      case '\'':
        out += "&#39;";
        break;
      case '"':
        out += "&#34;";
        break;
      default:
        out += c;
    }
  }
  return out;
}

}  // namespace calque::text::jinja
