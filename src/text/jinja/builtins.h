#pragma once

#include <cstddef>
#include <cstdint>
#include <functional>
#include <string>
#include <string_view>
#include <vector>

#include "text/jinja/value.h"

namespace calque::text::jinja {

// The input of a filter, a test or a method.
class Call {
 public:
  Call(const Value& of, std::vector<const Value*> bound, const Arguments& written,
       Budget& budget_left)
      : subject(of), budget(budget_left), arguments(written), bound_(std::move(bound)) {}

  const Value& subject;
  Budget& budget;
  const Arguments& arguments;  // as they were written

  // The argument of parameter `at`; null if it is not given.
  const Value* given(std::size_t at) const { return bound_[at]; }
  std::string text(std::size_t at, const std::string& absent) const;
  std::int64_t integer(std::size_t at, std::int64_t absent) const;
  bool flag(std::size_t at, bool absent) const;

 private:
  std::vector<const Value*> bound_;
};

struct Builtin {
  std::string_view name;
  std::string_view parameters;  // names between spaces; "*": takes what it is given
  Value (*call)(const Call& call);
};
struct TestBuiltin {
  std::string_view name;
  std::string_view parameters;
  bool (*call)(const Call& call);
};

// Null for a name that is not known.
const Builtin* find_filter(std::string_view name);
const TestBuiltin* find_test(std::string_view name);
// `owner` has the method as an attribute of this name; undefined if Python has none there. One that
// Python has and this table lacks fails when it is called.
Value method_of(const Value& owner, std::string_view name, Budget& budget);

Value call_filter(const Builtin& filter, const Value& subject, const Arguments& arguments,
                  Budget& budget);
bool call_test(const TestBuiltin& test, const Value& subject, const Arguments& arguments,
               Budget& budget);
// Puts each argument at its parameter; Failure for one too many, twice, or of another name.
std::vector<const Value*> bound_arguments(std::string_view function, std::string_view parameters,
                                          const Arguments& arguments);

// a.name and a[key] of templates: attribute first, or element first.
Value attribute_of(const Value& owner, const std::string& name, Budget& budget);
Value item_of(const Value& owner, const Value& key, Budget& budget);
Value slice_of(const Value& owner, const Value& begin, const Value& end, const Value& step,
               Budget& budget);
// +, -, *, /, //, %, **
Value arithmetic(std::string_view operation, const Value& a, const Value& b, Budget& budget);
// The operator ~.
Value concatenated(const List& values, Budget& budget);

// The functions that a template may call by name, but those of its own variables.
struct Clock {
  std::int64_t seconds = 0;  // since 1970, UTC
};
Value global_function(std::string_view name, const Clock& clock,
                      const std::function<Namespace*()>& new_namespace, Budget& budget);

}  // namespace calque::text::jinja
