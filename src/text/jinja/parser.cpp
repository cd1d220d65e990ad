#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <charconv>
#include <initializer_list>

#include "calque/core/names.h"
#include "text/jinja/syntax.h"

namespace calque::text::jinja {
namespace {

using Kind = Expression::Kind;
using StatementPtr = std::unique_ptr<Statement>;

constexpr std::size_t kDeepest = 150;  // brackets and blocks in each other, links of a chain

class Parser {
 public:
  explicit Parser(std::string_view source) : tokens_(tokens_of(source)) {}

  Block run() {
    Block block = body({});
    if (token().kind != Token::Kind::kEnd) unexpected();
    return block;
  }

 private:
  // ---- Tokens

  const Token& token() const { return tokens_[at_]; }
  const Token& ahead() const { return tokens_[std::min(at_ + 1, tokens_.size() - 1)]; }
  Token take() { return at_ + 1 < tokens_.size() ? tokens_[at_++] : tokens_[at_]; }

  [[noreturn]] void refuse(const std::string& message) const {
    throw ParseFailure{token().line, message};
  }
  [[noreturn]] void unexpected() const {
    switch (token().kind) {
      case Token::Kind::kEnd:
        refuse("the template ends too early");
      case Token::Kind::kPrintEnd:
        refuse("unexpected }}");
      case Token::Kind::kBlockEnd:
        refuse("unexpected %}");
      default:
        refuse(fmt::format("unexpected {}", quote_name(token().text)));
    }
  }

  bool is(std::string_view operation) const {
    return token().kind == Token::Kind::kOperator && token().text == operation;
  }
  bool is_name(std::string_view name) const {
    return token().kind == Token::Kind::kName && token().text == name;
  }
  bool skip(std::string_view operation) {
    const bool there = is(operation);
    if (there) ++at_;
    return there;
  }
  bool skip_name(std::string_view name) {
    const bool there = is_name(name);
    if (there) ++at_;
    return there;
  }
  void expect(std::string_view operation) {
    if (!skip(operation)) unexpected();
  }
  void expect(Token::Kind kind) {
    if (token().kind != kind) unexpected();
    ++at_;
  }
  std::string name() {
    if (token().kind != Token::Kind::kName) unexpected();
    return take().text;
  }

  // Counts how deep the parser has gone into itself.
  struct Level {
    explicit Level(Parser& parser) : parser_(parser) {
      if (++parser_.level_ > kDeepest) parser_.refuse("the template nests too deeply");
    }
    Level(const Level&) = delete;
    Level& operator=(const Level&) = delete;
    ~Level() { --parser_.level_; }
    Parser& parser_;
  };

  // ---- Expressions

  ExpressionPtr make(Kind kind, std::size_t line) const {
    auto made = std::make_unique<Expression>();
    made->kind = kind;
    made->line = line;
    return made;
  }
  void adopt(Expression& parent, ExpressionPtr child) const {
    if (child != nullptr) deepen(parent, *child);
    parent.children.push_back(std::move(child));
  }
  void deepen(Expression& parent, const Expression& child) const {
    parent.depth = std::max(parent.depth, child.depth + 1);
    if (parent.depth > kDeepest) refuse("an expression nests too deeply");
  }
  template <typename... Children>
  ExpressionPtr make(Kind kind, std::size_t line, std::string text, Children... children) const {
    ExpressionPtr made = make(kind, line);
    made->name = std::move(text);
    (adopt(*made, std::move(children)), ...);
    return made;
  }

  ExpressionPtr expression(bool conditional = true) {
    const Level level(*this);
    if (!conditional) return disjunction();
    const std::size_t line = token().line;
    ExpressionPtr value = disjunction();
    while (skip_name("if")) {
      ExpressionPtr condition = disjunction();
      ExpressionPtr other = skip_name("else") ? expression() : nullptr;
      value = make(Kind::kIf, line, "", std::move(value), std::move(condition), std::move(other));
    }
    return value;
  }

  ExpressionPtr disjunction() {
    ExpressionPtr left = conjunction();
    for (std::size_t line = token().line; skip_name("or"); line = token().line)
      left = make(Kind::kOr, line, "", std::move(left), conjunction());
    return left;
  }

  ExpressionPtr conjunction() {
    ExpressionPtr left = negation();
    for (std::size_t line = token().line; skip_name("and"); line = token().line)
      left = make(Kind::kAnd, line, "", std::move(left), negation());
    return left;
  }

  ExpressionPtr negation() {
    const Level level(*this);
    const std::size_t line = token().line;
    if (skip_name("not")) return make(Kind::kNot, line, "", negation());
    return comparison();
  }

  std::string comparison_operator() {
    for (const char* known : {"==", "!=", "<", "<=", ">", ">="})
      if (skip(known)) return known;
    if (skip_name("in")) return "in";
    if (is_name("not") && ahead().kind == Token::Kind::kName && ahead().text == "in") {
      at_ += 2;
      return "not in";
    }
    return "";
  }

  ExpressionPtr comparison() {
    const std::size_t line = token().line;
    ExpressionPtr first = sum();
    std::string operation = comparison_operator();
    if (operation.empty()) return first;
    ExpressionPtr whole = make(Kind::kCompare, line, "", std::move(first));
    for (; !operation.empty(); operation = comparison_operator()) {
      whole->operators.push_back(operation);
      adopt(*whole, sum());
    }
    return whole;
  }

  template <typename Next>
  ExpressionPtr left_to_right(std::initializer_list<const char*> operations, const Next& next) {
    ExpressionPtr left = next();
    while (true) {
      const auto* found = std::find_if(operations.begin(), operations.end(),
                                       [&](const char* operation) { return is(operation); });
      if (found == operations.end()) return left;
      const std::size_t line = take().line;
      left = make(Kind::kArithmetic, line, *found, std::move(left), next());
    }
  }

  ExpressionPtr sum() {
    return left_to_right({"+", "-"}, [this] { return concatenation(); });
  }

  ExpressionPtr concatenation() {
    const std::size_t line = token().line;
    ExpressionPtr first = product();
    if (!is("~")) return first;
    ExpressionPtr whole = make(Kind::kConcatenate, line, "", std::move(first));
    while (skip("~")) adopt(*whole, product());
    return whole;
  }

  ExpressionPtr product() {
    return left_to_right({"*", "/", "//", "%"}, [this] { return power(); });
  }

  ExpressionPtr power() {
    return left_to_right({"**"}, [this] { return unary(true); });
  }

  ExpressionPtr unary(bool filtered) {
    const Level level(*this);
    const std::size_t line = token().line;
    ExpressionPtr node;
    if (skip("-"))
      node = make(Kind::kMinus, line, "", unary(false));
    else if (skip("+"))
      node = make(Kind::kPlus, line, "", unary(false));
    else
      node = primary();
    node = postfix(std::move(node));
    return filtered ? filters(std::move(node)) : std::move(node);
  }

  ExpressionPtr constant(Value value, std::size_t line) const {
    ExpressionPtr made = make(Kind::kConstant, line);
    made->constant = std::move(value);
    return made;
  }

  ExpressionPtr primary() {
    const Token first = token();
    switch (first.kind) {
      case Token::Kind::kName:
        return named_value();
      case Token::Kind::kString: {
        std::string text;
        while (token().kind == Token::Kind::kString) text += take().text;
        return constant(std::move(text), first.line);
      }
      case Token::Kind::kInteger: {
        std::int64_t number = 0;
        const char* end = first.text.data() + first.text.size();
        if (std::from_chars(first.text.data(), end, number).ec != std::errc())
          refuse(fmt::format("the number {} has more than 64 bits", first.text));
        ++at_;
        return constant(number, first.line);
      }
      case Token::Kind::kFloat: {
        double number = 0;
        std::from_chars(first.text.data(), first.text.data() + first.text.size(), number);
        ++at_;
        return constant(number, first.line);
      }
      case Token::Kind::kOperator:
        if (skip("(")) {
          ExpressionPtr inside = tuple(true, ")");
          expect(")");
          return inside;
        }
        if (skip("[")) return list(first.line);
        if (skip("{")) return dict(first.line);
        [[fallthrough]];
      default:
        unexpected();
    }
  }

  ExpressionPtr named_value() {
    const Token word = take();
    if (word.text == "true" || word.text == "True") return constant(true, word.line);
    if (word.text == "false" || word.text == "False") return constant(false, word.line);
    if (word.text == "none" || word.text == "None") return constant(None{}, word.line);
    for (const char* reserved : {"and", "or", "not", "in", "is", "if", "else", "elif"})
      if (word.text == reserved) refuse(fmt::format("unexpected '{}'", reserved));
    if (in_macro_ && (word.text == "varargs" || word.text == "kwargs"))
      refuse(fmt::format("'{}' of a macro is not known", word.text));
    return make(Kind::kName, word.line, word.text);
  }

  bool ends_tuple(std::string_view closing) const {
    return token().kind == Token::Kind::kBlockEnd || token().kind == Token::Kind::kPrintEnd ||
           token().kind == Token::Kind::kEnd || (!closing.empty() && is(closing));
  }

  // One expression, or a tuple of several with commas.
  ExpressionPtr tuple(bool conditional, std::string_view closing) {
    const Level level(*this);
    const std::size_t line = token().line;
    ExpressionPtr whole = make(Kind::kTuple, line);
    bool comma = false;
    while (!ends_tuple(closing)) {
      adopt(*whole, expression(conditional));
      comma = is(",");
      if (!skip(",")) break;
    }
    if (whole->children.empty() && closing.empty()) unexpected();
    if (whole->children.size() == 1 && !comma) return std::move(whole->children[0]);
    return whole;
  }

  ExpressionPtr list(std::size_t line) {
    ExpressionPtr whole = make(Kind::kList, line);
    while (!is("]")) {
      adopt(*whole, expression());
      if (!skip(",")) break;
    }
    expect("]");
    return whole;
  }

  ExpressionPtr dict(std::size_t line) {
    ExpressionPtr whole = make(Kind::kDict, line);
    while (!is("}")) {
      adopt(*whole, expression());
      expect(":");
      adopt(*whole, expression());
      if (!skip(",")) break;
    }
    expect("}");
    return whole;
  }

  ExpressionPtr postfix(ExpressionPtr node) {
    while (true) {
      const std::size_t line = token().line;
      if (skip("."))
        node = after_dot(std::move(node), line);
      else if (skip("["))
        node = subscript(std::move(node), line);
      else if (is("("))
        node = call(std::move(node), line);
      else
        return node;
    }
  }

  ExpressionPtr after_dot(ExpressionPtr node, std::size_t line) {
    if (token().kind != Token::Kind::kInteger)
      return make(Kind::kAttribute, line, name(), std::move(node));
    return make(Kind::kItem, line, "", std::move(node), primary());
  }

  ExpressionPtr subscript(ExpressionPtr node, std::size_t line) {
    std::vector<ExpressionPtr> parts(1);
    bool slice = false;
    if (!is(":")) parts[0] = expression();
    while (skip(":")) {
      slice = true;
      if (parts.size() == 3) unexpected();
      parts.push_back(is(":") || is("]") ? nullptr : expression());
    }
    if (is(",")) refuse("an index with a comma is not known");
    expect("]");
    if (!slice) return make(Kind::kItem, line, "", std::move(node), std::move(parts[0]));
    parts.resize(3);
    return make(Kind::kSlice, line, "", std::move(node), std::move(parts[0]), std::move(parts[1]),
                std::move(parts[2]));
  }

  void call_arguments(Expression& whole) {
    expect("(");
    while (!is(")")) {
      if (is("*") || is("**"))
        refuse(fmt::format("{} before an argument is not known", token().text));
      const bool keyword = token().kind == Token::Kind::kName &&
                           ahead().kind == Token::Kind::kOperator && ahead().text == "=";
      if (keyword) {
        std::string key = take().text;
        ++at_;
        whole.named.emplace_back(std::move(key), expression());
        deepen(whole, *whole.named.back().second);
      } else {
        if (!whole.named.empty()) refuse("an argument without a name comes after one with a name");
        adopt(whole, expression());
      }
      if (!skip(",")) break;
    }
    expect(")");
  }

  ExpressionPtr call(ExpressionPtr node, std::size_t line) {
    ExpressionPtr whole = make(Kind::kCall, line, "", std::move(node));
    call_arguments(*whole);
    return whole;
  }

  ExpressionPtr filters(ExpressionPtr node) {
    while (true) {
      const std::size_t line = token().line;
      if (skip("|"))
        node = filter(std::move(node), line);
      else if (skip_name("is"))
        node = test(std::move(node), line);
      else if (is("("))
        node = call(std::move(node), line);
      else
        return node;
    }
  }

  std::string dotted_name() {
    std::string word = name();
    while (skip(".")) word += "." + name();
    return word;
  }

  ExpressionPtr filter(ExpressionPtr node, std::size_t line) {
    ExpressionPtr whole = make(Kind::kFilter, line, dotted_name(), std::move(node));
    whole->builtin = find_filter(whole->name);
    if (is("(")) call_arguments(*whole);
    return whole;
  }

  bool begins_argument() const {
    switch (token().kind) {
      case Token::Kind::kName:
        return !is_name("else") && !is_name("or") && !is_name("and") && !is_name("is");
      case Token::Kind::kString:
      case Token::Kind::kInteger:
      case Token::Kind::kFloat:
        return true;
      default:
        return is("[") || is("{");
    }
  }

  ExpressionPtr test(ExpressionPtr node, std::size_t line) {
    const bool negated = skip_name("not");
    ExpressionPtr whole = make(Kind::kTest, line, dotted_name(), std::move(node));
    whole->test = find_test(whole->name);
    if (is("("))
      call_arguments(*whole);
    else if (is_name("is"))
      refuse("a test comes after a test");
    else if (begins_argument())
      adopt(*whole, postfix(primary()));
    return negated ? make(Kind::kNot, line, "", std::move(whole)) : std::move(whole);
  }

  // ---- Statements

  bool at_block(std::initializer_list<std::string_view> names) const {
    if (token().kind != Token::Kind::kBlockBegin || ahead().kind != Token::Kind::kName)
      return false;
    return std::find(names.begin(), names.end(), ahead().text) != names.end();
  }

  // Statements up to a block of one of these names, which is not taken.
  Block body(std::initializer_list<std::string_view> ends) {
    const Level level(*this);
    Block block;
    while (token().kind != Token::Kind::kEnd && !at_block(ends)) block.push_back(statement());
    return block;
  }
  // As `body`, and takes the one end.
  Block body_to(const char* opened, std::string_view end) {
    Block block = body({end});
    if (token().kind == Token::Kind::kEnd) refuse(fmt::format("{{% {} %}} is not closed", opened));
    at_ += 2;
    expect(Token::Kind::kBlockEnd);
    return block;
  }

  static StatementPtr make_statement(Statement::Kind kind, std::size_t line) {
    auto made = std::make_unique<Statement>();
    made->kind = kind;
    made->line = line;
    return made;
  }

  StatementPtr statement() {
    const Token first = take();
    if (first.kind == Token::Kind::kText) {
      StatementPtr made = make_statement(Statement::Kind::kText, first.line);
      made->text = first.text;
      return made;
    }
    if (first.kind == Token::Kind::kPrintBegin) {
      StatementPtr made = make_statement(Statement::Kind::kPrint, first.line);
      made->value = tuple(true, "");
      expect(Token::Kind::kPrintEnd);
      return made;
    }
    const std::string keyword = name();
    struct Entry {
      std::string_view keyword;
      StatementPtr (Parser::*parse)(std::size_t line);
    };
    constexpr std::array<Entry, 10> kStatements = {{{"if", &Parser::if_statement},
                                                    {"for", &Parser::for_statement},
                                                    {"set", &Parser::set_statement},
                                                    {"macro", &Parser::macro_statement},
                                                    {"call", &Parser::call_statement},
                                                    {"filter", &Parser::filter_statement},
                                                    {"with", &Parser::with_statement},
                                                    {"generation", &Parser::generation_statement},
                                                    {"break", &Parser::break_statement},
                                                    {"continue", &Parser::continue_statement}}};
    for (const Entry& entry : kStatements)
      if (entry.keyword == keyword) return (this->*entry.parse)(first.line);
    --at_;
    refuse(fmt::format("the statement {} is not known", quote_name(keyword)));
  }

  StatementPtr if_statement(std::size_t line) {
    StatementPtr whole = make_statement(Statement::Kind::kIf, line);
    Statement* last = whole.get();
    last->value = tuple(true, "");
    expect(Token::Kind::kBlockEnd);
    // A chain of elif is a chain of statements, as deep as it is long.
    for (std::size_t links = 0;; ++links) {
      if (links > kDeepest) refuse("too many elif");
      last->body = body({"elif", "else", "endif"});
      if (token().kind == Token::Kind::kEnd) throw ParseFailure{line, "{% if %} is not closed"};
      ++at_;
      const Token keyword = take();
      if (keyword.text == "elif") {
        last->other.push_back(make_statement(Statement::Kind::kIf, keyword.line));
        last = last->other.back().get();
        last->value = tuple(true, "");
        expect(Token::Kind::kBlockEnd);
        continue;
      }
      expect(Token::Kind::kBlockEnd);
      if (keyword.text == "else") last->other = body_to("if", "endif");
      return whole;
    }
  }

  Target target(bool with_attributes) {
    std::vector<Target> parts;
    bool comma = false;
    do {
      if (!parts.empty() && (is("=") || is_name("in"))) break;
      if (skip("(")) {
        const Level level(*this);
        parts.push_back(target(false));
        expect(")");
      } else {
        parts.push_back({{}, name(), ""});
        if (with_attributes && parts.size() == 1 && skip(".")) {
          parts[0].attribute = name();
          return parts[0];
        }
      }
      comma = is(",");
    } while (skip(","));
    for (const Target& part : parts)
      for (const char* reserved : {"true", "false", "none", "True", "False", "None"})
        if (part.name == reserved) refuse(fmt::format("assigns to '{}'", reserved));
    if (parts.size() == 1 && !comma) return parts[0];
    return {std::move(parts), "", ""};
  }

  StatementPtr for_statement(std::size_t line) {
    StatementPtr whole = make_statement(Statement::Kind::kFor, line);
    whole->target = target(false);
    if (!skip_name("in")) unexpected();
    whole->value = tuple(false, "");
    if (skip_name("if")) whole->condition = expression();
    if (is_name("recursive")) refuse("'recursive' in a for is not known");
    expect(Token::Kind::kBlockEnd);
    ++loops_;
    whole->body = body({"else", "endfor"});
    --loops_;
    if (token().kind == Token::Kind::kEnd) throw ParseFailure{line, "{% for %} is not closed"};
    ++at_;
    const Token keyword = take();
    expect(Token::Kind::kBlockEnd);
    if (keyword.text == "else") whole->other = body_to("for", "endfor");
    return whole;
  }

  StatementPtr loop_control(Statement::Kind kind, std::size_t line) {
    if (loops_ == 0) refuse("break or continue stands outside of a for");
    expect(Token::Kind::kBlockEnd);
    return make_statement(kind, line);
  }
  StatementPtr break_statement(std::size_t line) {
    return loop_control(Statement::Kind::kBreak, line);
  }
  StatementPtr continue_statement(std::size_t line) {
    return loop_control(Statement::Kind::kContinue, line);
  }

  // The body of a macro is a function: no loop around it is its own.
  Block function_body(const char* opened, std::string_view end) {
    const std::size_t loops = std::exchange(loops_, 0);
    Block block = body_to(opened, end);
    loops_ = loops;
    return block;
  }

  StatementPtr set_statement(std::size_t line) {
    StatementPtr whole = make_statement(Statement::Kind::kSet, line);
    whole->target = target(true);
    if (skip("=")) {
      whole->value = tuple(true, "");
      expect(Token::Kind::kBlockEnd);
      return whole;
    }
    whole->kind = Statement::Kind::kSetBlock;
    if (is("|")) whole->value = filters(nullptr);
    expect(Token::Kind::kBlockEnd);
    whole->body = body_to("set", "endset");
    return whole;
  }

  void parameters(Statement& whole) {
    expect("(");
    while (!is(")")) {
      Parameter parameter{name(), nullptr};
      if (skip("="))
        parameter.standard = expression();
      else if (!whole.parameters.empty() && whole.parameters.back().standard != nullptr)
        refuse("a parameter without a default comes after one with a default");
      whole.parameters.push_back(std::move(parameter));
      if (!skip(",")) break;
    }
    expect(")");
  }

  StatementPtr macro_statement(std::size_t line) {
    StatementPtr whole = make_statement(Statement::Kind::kMacro, line);
    whole->text = name();
    parameters(*whole);
    expect(Token::Kind::kBlockEnd);
    const bool outer = std::exchange(in_macro_, true);
    whole->body = function_body("macro", "endmacro");
    in_macro_ = outer;
    return whole;
  }

  StatementPtr call_statement(std::size_t line) {
    StatementPtr whole = make_statement(Statement::Kind::kCall, line);
    if (is("(")) parameters(*whole);
    whole->value = expression();
    if (whole->value->kind != Kind::kCall) refuse("{% call %} has no call");
    expect(Token::Kind::kBlockEnd);
    whole->body = function_body("call", "endcall");
    return whole;
  }

  StatementPtr filter_statement(std::size_t line) {
    StatementPtr whole = make_statement(Statement::Kind::kFilter, line);
    ExpressionPtr first = filter(nullptr, line);
    whole->value = filters(std::move(first));
    expect(Token::Kind::kBlockEnd);
    whole->body = body_to("filter", "endfilter");
    return whole;
  }

  StatementPtr with_statement(std::size_t line) {
    StatementPtr whole = make_statement(Statement::Kind::kWith, line);
    while (token().kind != Token::Kind::kBlockEnd) {
      Parameter variable{name(), nullptr};
      expect("=");
      variable.standard = expression();
      whole->parameters.push_back(std::move(variable));
      if (!skip(",")) break;
    }
    expect(Token::Kind::kBlockEnd);
    whole->body = body_to("with", "endwith");
    return whole;
  }

  StatementPtr generation_statement(std::size_t line) {
    expect(Token::Kind::kBlockEnd);
    StatementPtr whole = make_statement(Statement::Kind::kGeneration, line);
    whole->body = function_body("generation", "endgeneration");
    return whole;
  }

  std::vector<Token> tokens_;
  std::size_t at_ = 0;
  std::size_t level_ = 0;
  std::size_t loops_ = 0;
  bool in_macro_ = false;
};

}  // namespace

Block parse(std::string_view source) { return Parser(source).run(); }

}  // namespace calque::text::jinja
