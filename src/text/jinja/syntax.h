#pragma once

#include <cstddef>
#include <memory>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "text/jinja/builtins.h"
#include "text/jinja/value.h"

namespace calque::text::jinja {

// An expression. Comments name the parts: `a`, `b`, `c` are children by number, `text` is `name`.
struct Expression {
  enum class Kind {
    kConstant,     // constant
    kName,         // name
    kList,         // every child
    kTuple,        // every child
    kDict,         // key, value, key, value ...
    kAttribute,    // a.name
    kItem,         // a[b]
    kSlice,        // a[b:c:d]; a null child is left out
    kCall,         // a(children and named)
    kFilter,       // a | filter(children and named); a is null in front of a block's text
    kTest,         // a is test(children and named)
    kNot,          // not a
    kMinus,        // -a
    kPlus,         // +a
    kArithmetic,   // a name b
    kConcatenate,  // children joined by ~
    kCompare,      // a operators[0] b operators[1] c ...
    kAnd,          // a and b
    kOr,           // a or b
    kIf,           // a if b else c; c may be null
  };
  Kind kind = Kind::kConstant;
  std::size_t line = 0;
  std::size_t depth = 1;
  std::string name;
  Value constant;
  std::vector<std::unique_ptr<Expression>> children;
  std::vector<std::pair<std::string, std::unique_ptr<Expression>>> named;
  std::vector<std::string> operators;
  const Builtin* builtin = nullptr;  // kFilter; null: fails when it is reached, as in jinja2
  const TestBuiltin* test = nullptr;
};
using ExpressionPtr = std::unique_ptr<Expression>;

struct Statement;
using Block = std::vector<std::unique_ptr<Statement>>;

// The place that a value is assigned to: one name, several, or an attribute of a namespace.
struct Target {
  std::vector<Target> parts;  // not empty: the value is taken apart
  std::string name;
  std::string attribute;  // not empty: `name` is a namespace
};

struct Parameter {
  std::string name;
  ExpressionPtr standard;  // null: undefined if it is not given
};

struct Statement {
  enum class Kind {
    kText,        // text
    kPrint,       // value
    kIf,          // value, body, other
    kFor,         // target, value, condition, body, other
    kSet,         // target, value
    kSetBlock,    // target, body; value: filters of the text, or null
    kMacro,       // text is its name; parameters, body
    kCall,        // value is a call; parameters and body of its `caller`
    kFilter,      // value, body
    kWith,        // parameters with their values, body
    kGeneration,  // body
    kBreak,
    kContinue,
  };
  Kind kind = Kind::kText;
  std::size_t line = 0;
  std::string text;
  Target target;
  ExpressionPtr value;
  ExpressionPtr condition;
  Block body;
  Block other;
  std::vector<Parameter> parameters;
};

// Throws ParseFailure.
struct ParseFailure {
  std::size_t line;
  std::string message;
};
Block parse(std::string_view source);

// ---- Tokens: the lexer's part

struct Token {
  enum class Kind {
    kText,
    kPrintBegin,
    kPrintEnd,
    kBlockBegin,
    kBlockEnd,
    kName,
    kString,
    kInteger,
    kFloat,
    kOperator,
    kEnd,
  };
  Kind kind = Kind::kEnd;
  std::string text;
  std::size_t line = 0;
};
// As jinja2 with trim_blocks and lstrip_blocks.
std::vector<Token> tokens_of(std::string_view source);

}  // namespace calque::text::jinja
