#include "text/jinja/builtins.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <ctime>

#include "calque/core/names.h"
#include "text/unicode.h"

namespace calque::text::jinja {

// ---- Arguments

std::string Call::text(std::size_t at, const std::string& absent) const {
  const Value* value = given(at);
  if (value == nullptr || value->is_none()) return absent;
  if (!value->is_text()) fail(fmt::format("an argument is {}, not a string", value->type_name()));
  return value->text();
}

std::int64_t Call::integer(std::size_t at, std::int64_t absent) const {
  const Value* value = given(at);
  if (value == nullptr || value->is_none()) return absent;
  if (!value->is_int() && !value->is_bool())
    fail(fmt::format("an argument is {}, not an integer", value->type_name()));
  return value->integer();
}

bool Call::flag(std::size_t at, bool absent) const {
  const Value* value = given(at);
  return value == nullptr ? absent : value->truth();
}

namespace {

std::vector<std::string_view> words(std::string_view text) {
  std::vector<std::string_view> found;
  for (std::size_t begin = 0; begin < text.size();) {
    const std::size_t end = std::min(text.find(' ', begin), text.size());
    if (end > begin) found.push_back(text.substr(begin, end - begin));
    begin = end + 1;
  }
  return found;
}

}  // namespace

std::vector<const Value*> bound_arguments(std::string_view function, std::string_view parameters,
                                          const Arguments& arguments) {
  if (parameters == "*") return {};
  const std::vector<std::string_view> names = words(parameters);
  if (arguments.positional.size() > names.size())
    fail(fmt::format("{}: {} arguments, at most {} are known", function,
                     arguments.positional.size(), names.size()));
  std::vector<const Value*> bound(names.size());
  for (std::size_t i = 0; i < arguments.positional.size(); ++i) bound[i] = &arguments.positional[i];
  for (const auto& [name, value] : arguments.named) {
    const auto found = std::find(names.begin(), names.end(), name);
    if (found == names.end())
      fail(fmt::format("{}: the argument {} is not known", function, quote_name(name)));
    const Value*& place = bound[static_cast<std::size_t>(found - names.begin())];
    if (place != nullptr)
      fail(fmt::format("{}: the argument {} is given twice", function, quote_name(name)));
    place = &value;
  }
  return bound;
}

Value call_filter(const Builtin& filter, const Value& subject, const Arguments& arguments,
                  Budget& budget) {
  return filter.call(
      Call(subject, bound_arguments(filter.name, filter.parameters, arguments), arguments, budget));
}

bool call_test(const TestBuiltin& test, const Value& subject, const Arguments& arguments,
               Budget& budget) {
  return test.call(
      Call(subject, bound_arguments(test.name, test.parameters, arguments), arguments, budget));
}

// ---- Attributes, elements, slices

namespace {

Value loop_attribute(const Loop& loop, std::string_view name, Budget& budget) {
  const List& items = *loop.items;
  const std::size_t index = loop.index;
  const auto number = [](std::size_t value) { return Value(static_cast<std::int64_t>(value)); };
  if (name == "index") return number(index + 1);
  if (name == "index0") return number(index);
  if (name == "revindex") return number(items.size() - index);
  if (name == "revindex0") return number(items.size() - index - 1);
  if (name == "first") return index == 0;
  if (name == "last") return index + 1 == items.size();
  if (name == "length") return number(items.size());
  if (name == "depth") return number(1);
  if (name == "depth0") return number(0);
  if (name == "previtem")
    return index > 0 ? items[index - 1] : Value::undefined("there is no previous item");
  if (name == "nextitem")
    return index + 1 < items.size() ? items[index + 1] : Value::undefined("there is no next item");
  if (name == "cycle") {
    const auto cycle = [index](const Arguments& arguments) {
      if (arguments.positional.empty()) fail("loop.cycle has nothing to choose from");
      return arguments.positional[index % arguments.positional.size()];
    };
    budget.bytes(sizeof(Function));
    return std::make_shared<const Function>(Function{"loop.cycle", cycle});
  }
  fail(fmt::format("loop.{} is not known", name));
}

// An attribute in Python's sense; nullopt-like undefined is told by `found`.
Value own_attribute(const Value& owner, std::string_view name, Budget& budget, bool& found) {
  found = true;
  if (const Loop* loop = owner.loop()) return loop_attribute(*loop, name, budget);
  if (const Namespace* names = owner.space())
    if (const Value* value = names->find(name)) return *value;
  Value method = method_of(owner, name, budget);
  found = !method.is_undefined();
  return method;
}

Value nothing(const Value& owner, const std::string& what) {
  return Value::undefined(fmt::format("{} has no {}", owner.type_name(), what));
}

const Value* element_at(const List& items, std::int64_t index) {
  const auto size = static_cast<std::int64_t>(items.size());
  if (index < 0) index += size;
  return index < 0 || index >= size ? nullptr : &items[static_cast<std::size_t>(index)];
}

bool has_elements(const Sequence& list) {
  return list.kind != Sequence::Kind::kView && list.kind != Sequence::Kind::kIterator;
}

}  // namespace

Value attribute_of(const Value& owner, const std::string& name, Budget& budget) {
  if (owner.is_undefined()) fail(owner.undefined_reason());
  bool found = false;
  Value value = own_attribute(owner, name, budget, found);
  if (found) return value;
  if (const Dict* map = owner.dict())
    if (const Value* member = map->find(name)) return *member;
  return nothing(owner, quote_name(name));
}

Value item_of(const Value& owner, const Value& key, Budget& budget) {
  if (owner.is_undefined()) fail(owner.undefined_reason());
  if (const Dict* map = owner.dict())
    if (const bool is_key = key.dict() == nullptr && key.sequence() == nullptr; is_key)
      if (const Value* member = map->find(key, budget)) return *member;
  if (key.is_int() || key.is_bool()) {
    if (const Sequence* list = owner.sequence(); list != nullptr && has_elements(*list))
      if (const Value* element = element_at(list->items, key.integer())) return *element;
    if (owner.is_text()) {
      budget.step(1 + owner.text().size() / 16);
      const auto characters = code_points(owner.text());
      std::int64_t at = key.integer();
      if (at < 0) at += static_cast<std::int64_t>(characters.size());
      if (at >= 0 && at < static_cast<std::int64_t>(characters.size()))
        return text_value(std::string(characters[static_cast<std::size_t>(at)]), budget);
    }
    return nothing(owner, fmt::format("element {}", key.integer()));
  }
  if (!key.is_text()) return nothing(owner, "such element");
  bool found = false;
  Value value = own_attribute(owner, key.text(), budget, found);
  return found ? value : nothing(owner, quote_name(key.text()));
}

namespace {

std::int64_t bound_of(const Value& value, std::int64_t absent) {
  if (value.is_none()) return absent;
  if (!value.is_int() && !value.is_bool())
    fail(fmt::format("a slice has {} as a bound, not an integer", value.type_name()));
  return value.integer();
}

// The elements that Python's slice takes of `size`.
std::vector<std::size_t> slice_indices(std::int64_t size, const Value& begin, const Value& end,
                                       std::int64_t step) {
  const auto place = [size, step](const Value& value, std::int64_t absent) {
    if (value.is_none()) return absent;
    std::int64_t at = bound_of(value, 0);
    if (at < 0) at = at < -size ? -1 : at + size;
    return std::clamp(at, step < 0 ? std::int64_t{-1} : std::int64_t{0},
                      step < 0 ? size - 1 : size);
  };
  std::int64_t first = place(begin, step < 0 ? size - 1 : 0);
  const std::int64_t last = place(end, step < 0 ? -1 : size);
  std::vector<std::size_t> taken;
  if (step > size) step = size + 1;
  if (step < -size) step = -size - 1;
  for (; step > 0 ? first < last : first > last; first += step)
    taken.push_back(static_cast<std::size_t>(first));
  return taken;
}

}  // namespace

Value slice_of(const Value& owner, const Value& begin, const Value& end, const Value& step,
               Budget& budget) {
  if (owner.is_undefined()) fail(owner.undefined_reason());
  const std::int64_t stride = bound_of(step, 1);
  if (stride == 0) fail("a slice has the step 0");
  if (owner.is_text()) {
    budget.bytes(owner.text().size() * 2);
    const auto characters = code_points(owner.text());
    std::string out;
    for (const std::size_t i :
         slice_indices(static_cast<std::int64_t>(characters.size()), begin, end, stride))
      out += characters[i];
    return Value(std::move(out));
  }
  const Sequence* list = owner.sequence();
  if (list == nullptr || !has_elements(*list)) return nothing(owner, "slices");
  List items;
  for (const std::size_t i :
       slice_indices(static_cast<std::int64_t>(list->items.size()), begin, end, stride))
    items.push_back(list->items[i]);
  return sequence_value(std::move(items), budget, list->kind);
}

// ---- Arithmetic

namespace {

[[noreturn]] void refuse_operands(std::string_view operation, const Value& a, const Value& b) {
  for (const Value* value : {&a, &b})
    if (value->is_undefined()) fail(value->undefined_reason());
  fail(fmt::format("{} between {} and {}", operation, a.type_name(), b.type_name()));
}

std::int64_t floor_divided(std::int64_t a, std::int64_t b) {
  if (b == -1)
    return __builtin_sub_overflow(0, a, &a) ? (fail("an integer has more than 64 bits"), 0) : a;
  const std::int64_t quotient = a / b;
  return a % b != 0 && (a < 0) != (b < 0) ? quotient - 1 : quotient;
}

Value integer_power(std::int64_t base, std::int64_t exponent) {
  if (exponent < 0) return std::pow(static_cast<double>(base), static_cast<double>(exponent));
  std::int64_t product = 1;
  if (base == 0 || base == 1) return exponent == 0 ? product : base;
  if (base == -1) return exponent % 2 == 0 ? product : base;
  for (; exponent > 0; --exponent)
    if (__builtin_mul_overflow(product, base, &product)) fail("an integer has more than 64 bits");
  return product;
}

Value integer_arithmetic(std::string_view operation, std::int64_t a, std::int64_t b) {
  std::int64_t result = 0;
  bool overflow = false;
  if (operation == "+") {
    overflow = __builtin_add_overflow(a, b, &result);
  } else if (operation == "-") {
    overflow = __builtin_sub_overflow(a, b, &result);
  } else if (operation == "*") {
    overflow = __builtin_mul_overflow(a, b, &result);
  } else if (operation == "**") {
    return integer_power(a, b);
  } else {
    if (b == 0) fail("division by zero");
    if (operation == "/") return static_cast<double>(a) / static_cast<double>(b);
    result = floor_divided(a, b);
    if (operation == "%") result = b == -1 ? 0 : a - result * b;
  }
  if (overflow) fail("an integer has more than 64 bits");
  return result;
}

Value float_arithmetic(std::string_view operation, double a, double b) {
  if (operation == "+") return a + b;
  if (operation == "-") return a - b;
  if (operation == "*") return a * b;
  if (operation == "**") {
    if (a < 0 && b != std::floor(b)) fail("a power of a negative number");
    if (a == 0 && b < 0) fail("division by zero");
    return std::pow(a, b);
  }
  if (b == 0) fail("division by zero");
  if (operation == "/") return a / b;
  double rest = std::fmod(a, b);
  if (rest != 0 && (rest < 0) != (b < 0)) rest += b;
  if (operation == "%") return rest == 0 ? std::copysign(0.0, b) : rest;
  return std::nearbyint((a - rest) / b);
}

std::string repeated(const std::string& text, std::int64_t times, Budget& budget) {
  std::string out;
  for (std::int64_t i = 0; i < times && !text.empty(); ++i) {
    budget.bytes(text.size());
    budget.step();
    out += text;
  }
  return out;
}

Value repeated_list(const Sequence& list, std::int64_t times, Budget& budget) {
  List items;
  for (std::int64_t i = 0; i < times && !list.items.empty(); ++i) {
    budget.bytes(list.items.size() * sizeof(Value));
    items.insert(items.end(), list.items.begin(), list.items.end());
  }
  return sequence_value(std::move(items), budget, list.kind);
}

Value sum_of(const Value& a, const Value& b, Budget& budget) {
  const Sequence* left = a.sequence();
  const Sequence* right = b.sequence();
  if (left != nullptr && right != nullptr && left->kind == right->kind &&
      left->kind <= Sequence::Kind::kTuple) {
    budget.bytes(left->items.size() * sizeof(Value));
    List items = left->items;
    items.insert(items.end(), right->items.begin(), right->items.end());
    return sequence_value(std::move(items), budget, left->kind);
  }
  if (!a.is_text() || !b.is_text()) refuse_operands("+", a, b);
  budget.bytes(a.text().size() + b.text().size());
  const bool safe = a.is_safe() || b.is_safe();
  const auto part = [safe](const Value& value) {
    return safe && !value.is_safe() ? html_escaped(value.text()) : value.text();
  };
  return Value(part(a) + part(b), safe);
}

// `text % b`, as far as templates go: %s, %d, %%.
Value formatted(const std::string& text, const Value& b, Budget& budget) {
  const Sequence* tuple = b.sequence();
  const bool many = tuple != nullptr && tuple->kind == Sequence::Kind::kTuple;
  const List values = many ? tuple->items : List{b};
  std::size_t used = 0;
  std::string out;
  for (std::size_t i = 0; i < text.size(); ++i) {
    if (text[i] != '%') {
      out += text[i];
      continue;
    }
    const char kind = ++i < text.size() ? text[i] : '\0';
    if (kind == '%') {
      out += '%';
      continue;
    }
    if (kind != 's' && kind != 'd') fail("a format of % other than %s, %d and %% is not known");
    if (used >= values.size()) fail("% has fewer values than its format");
    const Value& value = values[used++];
    if (kind == 'd' && !value.is_int()) fail(fmt::format("%d of {}", value.type_name()));
    out += str(value, budget);
  }
  if (used < values.size()) fail("% has more values than its format");
  return text_value(std::move(out), budget);
}

}  // namespace

Value concatenated(const List& values, Budget& budget) {
  std::string out;
  for (const Value& value : values) out += str(value, budget);
  return Value(std::move(out));
}

Value arithmetic(std::string_view operation, const Value& a, const Value& b, Budget& budget) {
  if (a.is_number() && b.is_number())
    return a.is_float() || b.is_float() ? float_arithmetic(operation, a.number(), b.number())
                                        : integer_arithmetic(operation, a.integer(), b.integer());
  if (operation == "+") return sum_of(a, b, budget);
  if (operation == "%" && a.is_text()) return formatted(a.text(), b, budget);
  if (operation != "*") refuse_operands(operation, a, b);
  const Value& times = a.is_number() ? a : b;
  const Value& what = a.is_number() ? b : a;
  if (times.is_float() || !times.is_number()) refuse_operands(operation, a, b);
  if (what.is_text()) return Value(repeated(what.text(), times.integer(), budget));
  const Sequence* list = what.sequence();
  if (list == nullptr || list->kind > Sequence::Kind::kTuple) refuse_operands(operation, a, b);
  return repeated_list(*list, times.integer(), budget);
}

// ---- Functions

namespace {

Value range(const Arguments& arguments, Budget& budget) {
  const List& given = arguments.positional;
  if (given.empty() || given.size() > 3 || !arguments.named.empty())
    fail("range takes one to three integers");
  for (const Value& value : given)
    if (!value.is_int() && !value.is_bool())
      fail(value.is_undefined() ? value.undefined_reason()
                                : fmt::format("range of {}", value.type_name()));
  const std::int64_t begin = given.size() > 1 ? given[0].integer() : 0;
  const std::int64_t end = given[given.size() > 1 ? 1 : 0].integer();
  const std::int64_t step = given.size() > 2 ? given[2].integer() : 1;
  if (step == 0) fail("range has the step 0");
  constexpr std::size_t kLongest = 100000;  // as in jinja2's sandbox
  List items;
  for (std::int64_t i = begin; step > 0 ? i < end : i > end;) {
    if (items.size() >= kLongest) fail(fmt::format("range is longer than {}", kLongest));
    items.emplace_back(i);
    if (__builtin_add_overflow(i, step, &i)) break;
  }
  return sequence_value(std::move(items), budget, Sequence::Kind::kRange);
}

Value strftime_now(const Arguments& arguments, const Clock& clock, Budget& budget) {
  const std::vector<const Value*> bound = bound_arguments("strftime_now", "format", arguments);
  if (bound[0] == nullptr || !bound[0]->is_text()) fail("strftime_now takes a format");
  const auto now = static_cast<std::time_t>(clock.seconds);
  std::tm parts{};
  gmtime_r(&now, &parts);
  // The first character tells an empty result from one that is too long.
  const std::string format = "." + bound[0]->text();
  char buffer[512];
  const std::size_t length = std::strftime(buffer, sizeof buffer, format.c_str(), &parts);
  if (length == 0) fail("strftime_now makes more text than fits");
  bool replaced_bytes = false;
  return text_value(replace_invalid_utf8(std::string(buffer + 1, length - 1), replaced_bytes),
                    budget);
}

Value new_dict(const Arguments& arguments, Budget& budget) {
  std::vector<std::pair<Value, Value>> items;
  if (arguments.positional.size() > 1) fail("dict takes one dict and named values");
  if (!arguments.positional.empty()) {
    const Dict* map = arguments.positional[0].dict();
    if (map == nullptr)
      fail(fmt::format("dict of {} is not known", arguments.positional[0].type_name()));
    items = map->items;
  }
  for (const auto& [name, value] : arguments.named) {
    const auto old = std::find_if(items.begin(), items.end(), [&name = name](const auto& item) {
      return item.first.is_text() && item.first.text() == name;
    });
    if (old != items.end())
      old->second = value;
    else
      items.emplace_back(Value(name), value);
  }
  return dict_value(std::move(items), budget);
}

Value new_space(const Arguments& arguments, Namespace& names) {
  if (arguments.positional.size() > 1) fail("namespace takes one dict and named values");
  if (!arguments.positional.empty()) {
    const Dict* map = arguments.positional[0].dict();
    if (map == nullptr) fail(fmt::format("namespace of {}", arguments.positional[0].type_name()));
    for (const auto& [key, value] : map->items) {
      if (!key.is_text()) fail(fmt::format("namespace has {} as a name", key.type_name()));
      names.set(key.text(), value);
    }
  }
  for (const auto& [name, value] : arguments.named) names.set(name, value);
  return &names;
}

[[noreturn]] void raise_exception(const Arguments& arguments, Budget& budget) {
  const std::vector<const Value*> bound = bound_arguments("raise_exception", "message", arguments);
  fail("the template refuses the conversation: " +
       (bound[0] == nullptr ? "" : str(*bound[0], budget)));
}

}  // namespace

Value global_function(std::string_view name, const Clock& clock,
                      const std::function<Namespace*()>& new_namespace, Budget& budget) {
  std::function<Value(const Arguments&)> call;
  if (name == "range")
    call = [&budget](const Arguments& a) { return range(a, budget); };
  else if (name == "dict")
    call = [&budget](const Arguments& a) { return new_dict(a, budget); };
  else if (name == "namespace")
    call = [new_namespace](const Arguments& a) { return new_space(a, *new_namespace()); };
  else if (name == "raise_exception")
    call = [&budget](const Arguments& a) -> Value { raise_exception(a, budget); };
  else if (name == "strftime_now")
    call = [&budget, clock](const Arguments& a) { return strftime_now(a, clock, budget); };
  else if (name == "cycler" || name == "joiner" || name == "lipsum")
    fail(fmt::format("the function {} is not known", name));
  else
    return Value::undefined(fmt::format("{} is undefined", quote_name(name)));
  return std::make_shared<const Function>(Function{std::string(name), std::move(call)});
}

}  // namespace calque::text::jinja
