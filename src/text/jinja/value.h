#pragma once

#include <cstddef>
#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <string_view>
#include <utility>
#include <variant>
#include <vector>

#include "calque/io/json.h"

namespace calque::text::jinja {

// A template fails: not a calque::Error yet, since only the evaluator knows name and line.
struct Failure {
  std::string message;
};
[[noreturn]] void fail(std::string message);

// The rest that one rendering may still use. A hostile template ends in a Failure, not in the
// machine's memory: every operation is charged before it is done.
class Budget {
 public:
  Budget(std::size_t steps, std::size_t bytes) : steps_(steps), bytes_(bytes) {}
  void step(std::size_t count = 1);
  void bytes(std::size_t count);
  std::size_t bytes_left() const { return bytes_; }
  void add_bytes(std::size_t count) { bytes_ += count; }

 private:
  std::size_t steps_;
  std::size_t bytes_;
};

class Value;
struct Sequence;
struct Dict;
struct Namespace;
struct Function;
struct Loop;
using List = std::vector<Value>;

struct Undefined {
  std::shared_ptr<const std::string> reason;  // "'tools' is undefined"
};
struct None {};
struct Text {
  std::shared_ptr<const std::string> utf8;  // always valid
  bool safe = false;  // came from the filter `safe`: text that is added to it is escaped for HTML
};

// A value of Python as templates see it. Everything but a namespace is immutable, as in the sandbox
// that Hugging Face renders in, so copies share what they hold.
class Value {
 public:
  Value() = default;  // undefined
  Value(None) : held_(None{}) {}
  Value(bool value) : held_(value) {}
  Value(std::int64_t value) : held_(value) {}
  Value(double value) : held_(value) {}
  Value(std::string text, bool safe = false)
      : held_(Text{std::make_shared<const std::string>(std::move(text)), safe}) {}
  Value(const char*) = delete;
  Value(std::shared_ptr<const Sequence> value) : held_(std::move(value)) {}
  Value(std::shared_ptr<const Dict> value) : held_(std::move(value)) {}
  Value(std::shared_ptr<const Loop> value) : held_(std::move(value)) {}
  Value(std::shared_ptr<const Function> value) : held_(std::move(value)) {}
  Value(Namespace* value) : held_(value) {}  // the rendering owns it

  static Value undefined(std::string reason);

  bool is_undefined() const { return is<Undefined>(); }
  bool is_none() const { return is<None>(); }
  bool is_bool() const { return is<bool>(); }
  bool is_int() const { return is<std::int64_t>(); }  // not a bool
  bool is_float() const { return is<double>(); }
  bool is_number() const { return is_bool() || is_int() || is_float(); }
  bool is_text() const { return is<Text>(); }
  const std::string& text() const { return *std::get<Text>(held_).utf8; }
  bool is_safe() const { return is_text() && std::get<Text>(held_).safe; }
  bool boolean() const { return std::get<bool>(held_); }
  std::int64_t integer() const;  // bools have one, too
  double number() const;         // any number has one

  const Sequence* sequence() const { return pointer<Sequence>(); }
  const Dict* dict() const { return pointer<Dict>(); }
  const Function* function() const { return pointer<Function>(); }
  const Loop* loop() const { return pointer<Loop>(); }
  Namespace* space() const { return is<Namespace*>() ? std::get<Namespace*>(held_) : nullptr; }

  bool truth() const;
  std::size_t depth() const;  // levels of containers in each other
  std::string type_name() const;
  std::string undefined_reason() const;
  // True if both are the same object, as far as that can be told.
  bool same_object(const Value& other) const;

 private:
  template <typename T>
  bool is() const {
    return std::holds_alternative<T>(held_);
  }
  template <typename T>
  const T* pointer() const {
    const auto* held = std::get_if<std::shared_ptr<const T>>(&held_);
    return held == nullptr ? nullptr : held->get();
  }

  std::variant<Undefined, None, bool, std::int64_t, double, Text, std::shared_ptr<const Sequence>,
               std::shared_ptr<const Dict>, std::shared_ptr<const Function>,
               std::shared_ptr<const Loop>, Namespace*>
      held_;
};

struct Sequence {
  enum class Kind {
    kList,
    kTuple,
    kRange,
    kView,      // a dict's keys, values or items: has a length, but no elements by number
    kIterator,  // from map, select, ...: can be walked once, and is always true
  };
  Kind kind = Kind::kList;
  List items;
  std::size_t depth = 1;
  mutable bool walked = false;
};

struct Dict {
  std::vector<std::pair<Value, Value>> items;
  std::size_t depth = 1;

  const Value* find(std::string_view key) const;
  const Value* find(const Value& key, Budget& budget) const;
};

struct Namespace {
  std::vector<std::pair<std::string, Value>> attributes;

  const Value* find(std::string_view name) const;
  void set(std::string_view name, Value value);
};

// The variable `loop`.
struct Loop {
  std::shared_ptr<const List> items;
  std::size_t index = 0;
  std::size_t depth = 1;
};

struct Arguments {
  List positional;
  std::vector<std::pair<std::string, Value>> named;
};
struct Function {
  std::string name;
  std::function<Value(const Arguments&)> call;
};

Value text_value(std::string text, Budget& budget);
Value sequence_value(List items, Budget& budget, Sequence::Kind kind = Sequence::Kind::kList);
Value dict_value(std::vector<std::pair<Value, Value>> items, Budget& budget);
Value value_of(const io::Json& json, Budget& budget);

// Python's str() and repr().
std::string str(const Value& value, Budget& budget);
std::string repr(const Value& value, Budget& budget);
std::string float_repr(double number);

// Python's json.dumps as Hugging Face's filter `tojson` calls it.
struct JsonStyle {
  bool ascii = false;
  bool sorted = false;
  bool lines = false;  // with `indent`
  std::string indent;
  std::string comma = ", ";
  std::string colon = ": ";
};
std::string to_json(const Value& value, const JsonStyle& style, Budget& budget);

bool equal(const Value& a, const Value& b, Budget& budget);
// Below zero, zero, above: Python's order. Failure for values without one.
int compare(const Value& a, const Value& b, Budget& budget);
bool contains(const Value& container, const Value& item, Budget& budget);
// The items that a `for` walks over.
List elements_of(const Value& value, Budget& budget);
std::size_t length_of(const Value& value);

// ---- Text by code points

std::size_t count_code_points(std::string_view text);
std::vector<std::string_view> code_points(std::string_view text);
bool is_space(char32_t code_point);  // Python's str.isspace
enum class Side { kLeft, kRight, kBoth };
// Without `characters` at its ends; white space if that is null.
std::string_view stripped(std::string_view text, Side side,
                          const std::string* characters = nullptr);
std::string upper(std::string_view text);
std::string lower(std::string_view text);
std::string capitalized(std::string_view text);
std::string replaced(const std::string& text, const std::string& from, const std::string& to,
                     std::int64_t most, Budget& budget);
std::string html_escaped(const std::string& text);

}  // namespace calque::text::jinja
