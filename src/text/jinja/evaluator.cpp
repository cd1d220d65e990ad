#include "text/jinja/evaluator.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <deque>
#include <memory>

#include "calque/core/names.h"

namespace calque::text::jinja {
namespace {

using Kind = Expression::Kind;

// Variables. A for, a macro and a few other blocks have their own; `set` there is not seen outside.
struct Scope {
  std::shared_ptr<Scope> parent;
  std::vector<std::pair<std::string, Value>> variables;

  void set(const std::string& name, Value value) {
    for (auto& [key, old] : variables) {
      if (key != name) continue;
      old = std::move(value);
      return;
    }
    variables.emplace_back(name, std::move(value));
  }
};
using ScopePtr = std::shared_ptr<Scope>;

enum class Flow { kNext, kBreak, kContinue };

class Evaluator {
 public:
  Evaluator(const Clock& clock, const RenderLimits& limits)
      : clock_(clock), limits_(limits), budget_(limits.steps, limits.bytes) {}

  std::string run(const Block& body, const io::Json& variables) {
    try {
      enter(variables);
      execute(body);
    } catch (const Failure& failure) {
      throw RenderFailure{line_, failure.message};
    }
    return std::move(out_);
  }

 private:
  // Statements and expressions in each other, macros included: what the machine's stack must hold.
  static constexpr std::size_t kDeepest = 500;
  static constexpr std::size_t kLargestInput = std::size_t{1} << 34;  // bytes as values
  struct Level {
    explicit Level(std::size_t& level) : level_(level) {
      if (++level_ > kDeepest) {
        --level_;
        fail("nests too deeply");
      }
    }
    Level(const Level&) = delete;
    Level& operator=(const Level&) = delete;
    ~Level() { --level_; }
    std::size_t& level_;
  };
  // A scope of its own until the end of a block.
  class Inner {
   public:
    Inner(ScopePtr& current, ScopePtr parent)
        : current_(current),
          outer_(std::exchange(current, std::make_shared<Scope>(Scope{std::move(parent), {}}))) {}
    Inner(const Inner&) = delete;
    Inner& operator=(const Inner&) = delete;
    ~Inner() { current_ = std::move(outer_); }

   private:
    ScopePtr& current_;
    ScopePtr outer_;
  };

  void enter(const io::Json& variables) {
    budget_.add_bytes(kLargestInput);
    const std::size_t before = budget_.bytes_left();
    scope_ = std::make_shared<Scope>();
    for (const io::Json::Member& variable : variables.members())
      scope_->set(variable.name, value_of(variable.value, budget_));
    scope_ = std::make_shared<Scope>(Scope{scope_, {}});
    const std::size_t used = before - budget_.bytes_left();
    budget_.bytes(kLargestInput - used);
    budget_.add_bytes(used * limits_.bytes_per_byte);
  }

  // ---- Statements

  void put(const std::string& text) {
    budget_.bytes(text.size());
    out_ += text;
  }

  // The text of `body` by itself.
  std::string text_of(const Block& body) {
    std::string outer = std::exchange(out_, {});
    execute(body);
    return std::exchange(out_, std::move(outer));
  }

  Flow execute(const Block& body) {
    const Level level(level_);
    for (const auto& statement : body)
      if (const Flow flow = execute(*statement); flow != Flow::kNext) return flow;
    return Flow::kNext;
  }

  Flow execute(const Statement& statement) {
    budget_.step();
    line_ = statement.line;
    switch (statement.kind) {
      case Statement::Kind::kText:
        put(statement.text);
        break;
      case Statement::Kind::kPrint:
        print(statement);
        break;
      case Statement::Kind::kIf:
        return execute_if(statement);
      case Statement::Kind::kFor:
        return execute_for(statement);
      case Statement::Kind::kSet:
        assign(statement.target, evaluate(*statement.value));
        break;
      case Statement::Kind::kSetBlock: {
        Value text;
        {
          const Inner inner(scope_, scope_);
          text = filtered_text(statement);
        }
        assign(statement.target, text);
        break;
      }
      case Statement::Kind::kMacro:
        scope_->set(statement.text, function(statement, statement.text));
        break;
      case Statement::Kind::kCall:
        call_with_body(statement);
        break;
      case Statement::Kind::kFilter: {
        const Inner inner(scope_, scope_);
        put(str(filtered_text(statement), budget_));
        break;
      }
      case Statement::Kind::kWith:
        return execute_with(statement);
      case Statement::Kind::kGeneration: {
        const Inner inner(scope_, scope_);
        return execute(statement.body);
      }
      case Statement::Kind::kBreak:
        return Flow::kBreak;
      case Statement::Kind::kContinue:
        return Flow::kContinue;
    }
    return Flow::kNext;
  }

  void print(const Statement& statement) {
    const Value value = evaluate(*statement.value);
    line_ = statement.line;
    if (value.is_text())
      put(value.text());
    else
      out_ += str(value, budget_);
  }

  Flow execute_if(const Statement& statement) {
    const Statement* link = &statement;
    while (!evaluate(*link->value).truth()) {
      // An elif is the only statement of the part that is left.
      const bool chain = link->other.size() == 1 && link->other[0]->kind == Statement::Kind::kIf;
      if (!chain) return execute(link->other);
      link = link->other[0].get();
    }
    return execute(link->body);
  }

  Value filtered_text(const Statement& statement) {
    Value text(text_of(statement.body));
    if (statement.value == nullptr) return text;
    block_texts_.push_back(text);
    Value filtered = evaluate(*statement.value);
    block_texts_.pop_back();
    return filtered;
  }

  Flow execute_with(const Statement& statement) {
    std::vector<Value> values;
    for (const Parameter& variable : statement.parameters)
      values.push_back(evaluate(*variable.standard));
    const Inner inner(scope_, scope_);
    for (std::size_t i = 0; i < values.size(); ++i)
      scope_->set(statement.parameters[i].name, std::move(values[i]));
    return execute(statement.body);
  }

  List walked(const Statement& statement) {
    List items = elements_of(evaluate(*statement.value), budget_);
    if (statement.condition == nullptr) return items;
    List kept;
    for (Value& item : items) {
      const Inner inner(scope_, scope_);
      assign(statement.target, item);
      if (evaluate(*statement.condition).truth()) kept.push_back(std::move(item));
    }
    return kept;
  }

  Flow execute_for(const Statement& statement) {
    const auto items = std::make_shared<const List>(walked(statement));
    line_ = statement.line;
    std::size_t depth = 0;
    for (const Value& item : *items) depth = std::max(depth, item.depth());
    for (std::size_t i = 0; i < items->size(); ++i) {
      budget_.step();
      const Inner inner(scope_, scope_);
      scope_->set("loop", std::make_shared<const Loop>(Loop{items, i, depth + 1}));
      assign(statement.target, (*items)[i]);
      if (execute(statement.body) == Flow::kBreak) break;
    }
    if (items->empty()) {
      const Inner inner(scope_, scope_);
      return execute(statement.other);
    }
    return Flow::kNext;
  }

  void assign(const Target& target, const Value& value) {
    if (!target.attribute.empty()) {
      Namespace* names = look_up(target.name).space();
      if (names == nullptr) fail(fmt::format("{} is no namespace", quote_name(target.name)));
      names->set(target.attribute, value);
      return;
    }
    if (target.parts.empty()) {
      scope_->set(target.name, value);
      return;
    }
    const List items = elements_of(value, budget_);
    if (items.size() != target.parts.size())
      fail(fmt::format("{} values are assigned to {} names", items.size(), target.parts.size()));
    for (std::size_t i = 0; i < items.size(); ++i) assign(target.parts[i], items[i]);
  }

  // ---- Macros

  Value function(const Statement& definition, const std::string& name) {
    budget_.bytes(sizeof(Scope) + sizeof(Function));
    // The scope outlives every call; it may hold the macro itself.
    kept_.push_back(scope_);
    return std::make_shared<const Function>(Function{
        name, [this, &definition, &scope = kept_.back(), name](const Arguments& arguments) {
          return call_macro(definition, name, scope, arguments);
        }});
  }

  Value call_macro(const Statement& definition, const std::string& name, const ScopePtr& scope,
                   const Arguments& arguments) {
    const Level level(level_);
    const std::size_t line = line_;
    std::string parameters = "caller";
    for (const Parameter& parameter : definition.parameters)
      parameters = parameter.name == "caller" ? parameters : parameters + " " + parameter.name;
    Arguments shifted = arguments;
    shifted.positional.insert(shifted.positional.begin(),
                              Value::undefined("'caller' is undefined"));
    for (const auto& [key, value] : arguments.named)
      if (key == "caller") {
        shifted.positional[0] = value;
        std::erase_if(shifted.named, [](const auto& named) { return named.first == "caller"; });
        break;
      }
    const std::vector<const Value*> bound = bound_arguments(name, parameters, shifted);
    const Inner inner(scope_, scope);
    scope_->set("caller", shifted.positional[0]);
    std::size_t at = 0;
    for (const Parameter& parameter : definition.parameters) {
      if (parameter.name == "caller") continue;
      const Value* given = bound[++at];
      if (given != nullptr)
        scope_->set(parameter.name, *given);
      else if (parameter.standard != nullptr)
        scope_->set(parameter.name, evaluate(*parameter.standard));
      else
        scope_->set(parameter.name,
                    Value::undefined(fmt::format("parameter {} of {} is not given",
                                                 quote_name(parameter.name), quote_name(name))));
    }
    Value text(text_of(definition.body));
    line_ = line;
    return text;
  }

  void call_with_body(const Statement& statement) {
    const Expression& call = *statement.value;
    const Value callee = evaluate(*call.children[0]);
    Arguments arguments = arguments_of(call, 1);
    arguments.named.emplace_back("caller", function(statement, "caller"));
    line_ = statement.line;
    put(str(called(callee, arguments), budget_));
  }

  // ---- Expressions

  const Value* find(const std::string& name) const {
    for (const Scope* scope = scope_.get(); scope != nullptr; scope = scope->parent.get())
      for (const auto& [key, value] : scope->variables)
        if (key == name) return &value;
    return nullptr;
  }

  Value look_up(const std::string& name) {
    if (const Value* value = find(name)) return *value;
    return global_function(
        name, clock_,
        [this] {
          budget_.bytes(sizeof(Namespace));
          namespaces_.push_back(std::make_unique<Namespace>());
          return namespaces_.back().get();
        },
        budget_);
  }

  Arguments arguments_of(const Expression& expression, std::size_t begin) {
    Arguments arguments;
    for (std::size_t i = begin; i < expression.children.size(); ++i)
      arguments.positional.push_back(evaluate(*expression.children[i]));
    for (const auto& [name, value] : expression.named)
      arguments.named.emplace_back(name, evaluate(*value));
    return arguments;
  }

  Value called(const Value& callee, const Arguments& arguments) {
    if (callee.is_undefined()) fail(callee.undefined_reason());
    if (callee.function() == nullptr) fail(fmt::format("calls {}", callee.type_name()));
    return callee.function()->call(arguments);
  }

  List values_of(const Expression& expression) {
    List values;
    for (const auto& child : expression.children) values.push_back(evaluate(*child));
    return values;
  }

  Value part(const ExpressionPtr& expression) {
    return expression == nullptr ? Value(None{}) : evaluate(*expression);
  }

  Value evaluate(const Expression& expression) {
    const Level level(level_);
    budget_.step();
    line_ = expression.line;
    const auto& children = expression.children;
    switch (expression.kind) {
      case Kind::kConstant:
        return expression.constant;
      case Kind::kName:
        return look_up(expression.name);
      case Kind::kList:
        return sequence_value(values_of(expression), budget_);
      case Kind::kTuple:
        return sequence_value(values_of(expression), budget_, Sequence::Kind::kTuple);
      case Kind::kDict:
        return dict(expression);
      case Kind::kAttribute: {
        const Value owner = evaluate(*children[0]);
        line_ = expression.line;
        return attribute_of(owner, expression.name, budget_);
      }
      case Kind::kItem: {
        const Value owner = evaluate(*children[0]);
        const Value key = evaluate(*children[1]);
        line_ = expression.line;
        return item_of(owner, key, budget_);
      }
      case Kind::kSlice: {
        const Value owner = evaluate(*children[0]);
        const Value begin = part(children[1]);
        const Value end = part(children[2]);
        return slice_of(owner, begin, end, part(children[3]), budget_);
      }
      case Kind::kCall: {
        const Value callee = evaluate(*children[0]);
        const Arguments arguments = arguments_of(expression, 1);
        line_ = expression.line;
        return called(callee, arguments);
      }
      case Kind::kFilter: {
        const Value subject = children[0] == nullptr ? block_texts_.back() : evaluate(*children[0]);
        const Arguments arguments = arguments_of(expression, 1);
        line_ = expression.line;
        if (expression.builtin == nullptr)
          fail(fmt::format("the filter {} is not known", quote_name(expression.name)));
        return call_filter(*expression.builtin, subject, arguments, budget_);
      }
      case Kind::kTest: {
        const Value subject = evaluate(*children[0]);
        const Arguments arguments = arguments_of(expression, 1);
        line_ = expression.line;
        if (expression.test == nullptr)
          fail(fmt::format("the test {} is not known", quote_name(expression.name)));
        return call_test(*expression.test, subject, arguments, budget_);
      }
      case Kind::kNot:
        return !evaluate(*children[0]).truth();
      case Kind::kMinus:
      case Kind::kPlus:
        return signed_number(expression);
      case Kind::kArithmetic: {
        const Value left = evaluate(*children[0]);
        const Value right = evaluate(*children[1]);
        line_ = expression.line;
        return arithmetic(expression.name, left, right, budget_);
      }
      case Kind::kConcatenate:
        return concatenated(values_of(expression), budget_);
      case Kind::kCompare:
        return compared(expression);
      case Kind::kAnd: {
        Value left = evaluate(*children[0]);
        return left.truth() ? evaluate(*children[1]) : left;
      }
      case Kind::kOr: {
        Value left = evaluate(*children[0]);
        return left.truth() ? left : evaluate(*children[1]);
      }
      case Kind::kIf:
        if (evaluate(*children[1]).truth()) return evaluate(*children[0]);
        return children[2] == nullptr ? Value::undefined("an inline if without else is false")
                                      : evaluate(*children[2]);
    }
    return {};
  }

  Value dict(const Expression& expression) {
    std::vector<std::pair<Value, Value>> items;
    for (std::size_t i = 0; i < expression.children.size(); i += 2) {
      Value key = evaluate(*expression.children[i]);
      Value value = evaluate(*expression.children[i + 1]);
      if (key.dict() != nullptr || key.sequence() != nullptr)
        fail(fmt::format("{} as a key is not known", key.type_name()));
      const auto old = std::find_if(items.begin(), items.end(), [&](const auto& item) {
        return equal(item.first, key, budget_);
      });
      if (old != items.end())
        old->second = std::move(value);
      else
        items.emplace_back(std::move(key), std::move(value));
    }
    return dict_value(std::move(items), budget_);
  }

  Value signed_number(const Expression& expression) {
    const Value value = evaluate(*expression.children[0]);
    if (value.is_undefined()) fail(value.undefined_reason());
    if (!value.is_number()) fail(fmt::format("a sign before {}", value.type_name()));
    if (expression.kind == Kind::kPlus) return value.is_float() ? value : Value(value.integer());
    if (value.is_float()) return -value.number();
    return arithmetic("-", std::int64_t{0}, value, budget_);
  }

  bool holds(const std::string& operation, const Value& a, const Value& b) {
    if (operation == "==") return equal(a, b, budget_);
    if (operation == "!=") return !equal(a, b, budget_);
    if (operation == "in") return contains(b, a, budget_);
    if (operation == "not in") return !contains(b, a, budget_);
    for (const Value* value : {&a, &b})
      if (value->is_float() && std::isnan(value->number())) return false;
    const int order = compare(a, b, budget_);
    if (operation == "<") return order < 0;
    if (operation == "<=") return order <= 0;
    return operation == ">" ? order > 0 : order >= 0;
  }

  Value compared(const Expression& expression) {
    Value left = evaluate(*expression.children[0]);
    for (std::size_t i = 0; i < expression.operators.size(); ++i) {
      Value right = evaluate(*expression.children[i + 1]);
      line_ = expression.line;
      if (!holds(expression.operators[i], left, right)) return false;
      left = std::move(right);
    }
    return true;
  }

  Clock clock_;
  RenderLimits limits_;
  Budget budget_;
  std::vector<std::unique_ptr<Namespace>> namespaces_;
  std::deque<ScopePtr> kept_;
  ScopePtr scope_;
  std::vector<Value> block_texts_;
  std::string out_;
  std::size_t line_ = 1;
  std::size_t level_ = 0;
};

}  // namespace

std::string render(const Block& template_body, const io::Json& variables, const Clock& clock,
                   const RenderLimits& limits) {
  return Evaluator(clock, limits).run(template_body, variables);
}

}  // namespace calque::text::jinja
