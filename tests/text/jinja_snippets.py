"""Small templates, one a line or block, that are run through Jinja2 and through tritllm with the same variables (SNIPPET_VARIABLES)."""

SNIPPET_VARIABLES = {
    "text": "Hello wörld",
    "spaced": "  a  b\tc \n",
    "empty": "",
    "number": 7,
    "negative": -7,
    "real": 2.5,
    "big": 12345678901234567,
    "nothing": None,
    "yes": True,
    "no": False,
    "words": ["pear", "Apple", "fig", "apple"],
    "numbers": [3, 1, 2],
    "nested": {"a": {"b": [1, {"c": "deep"}]}, "items": "not a method", "": 1},
    "people": [
        {"name": "Ann", "age": 31, "tags": ["x", "y"], "admin": True},
        {"name": "bob", "age": 25, "tags": [], "admin": False},
        {"name": "Cid", "age": 31, "tags": ["z"]},
    ],
    "mixed": [1, "a", None, True, 2.0, [1], {"k": "v"}],
    "unicode": "naïve 日本 🎉 ΣΑΣ",
    "quotes": "it's \"quoted\" \\ back\nnew\ttab\x07",
    "html": "<a href='x'>&</a>",
    "numeric": "42",
    "float_text": " 3.14 ",
    "empty_list": [],
    "empty_dict": {},
}

EXPRESSIONS = r"""
1
1 + 2 * 3
(1 + 2) * 3
7 // 2
-7 // 2
7 // -2
-7 % 3
7 % -3
-7.5 % 2
7.5 // 2
-7.5 // 2
2 ** 10
2 ** -1
-2 ** 2
2 ** 3 ** 2
1 / 3
6 / 3
1 / 0
1 // 0
1 % 0
1.0
1e16
1e15
1.5e300
1e-5
0.0001
123456789.123456789
1e22
100000000000000000000.0
5e-324
0.1 + 0.2
-0.0
1_000
1_0.5
9223372036854775807
- 9223372036854775807
1 if true else 2
1 if false
1 if false else 2 if false else 3
'a' 'b' "c"
'a\nb\t\x41\u00e9\101\'"\\'
'a\qb'
"multi
line"
'é' ~ 1 ~ none ~ true ~ 1.0 ~ [1,'a']
'a' + 'b'
'a' + 1
1 + 'a'
'a' * 3
3 * 'ab'
'a' * -1
[1] * 2
[1, 2] + [3]
(1,) + (2, 3)
[1] + (2,)
()
(1,)
(1)
1, 2
[]
{}
{'a': 1, 'b': [1, 2, {'c': none}]}
{1: 2, true: 3, 2.0: 'x', none: 4, (1, 2): 5}
{'a': 1, 'a': 2}
[1, 2,]
{'a': 1,}
{[]: 1}
none
None
true and 1
false or 'x'
none or 0
'' or [] or {}
not none
not not 1
not 1 == 2
1 == 1.0
true == 1
'1' == 1
[1, 2] == [1, 2]
[1] == (1,)
{'a': 1, 'b': 2} == {'b': 2, 'a': 1}
none == none
missing == none
missing == missing2
1 < 2 < 3
3 > 2 > 2
1 < 'a'
'a' < 'b'
'Z' < 'a'
[1, 2] < [1, 3]
none < 1
1 != 2
1 in [1, 2]
'a' in 'abc'
1 in 'abc'
'a' in {'a': 1}
'b' not in ['a']
'x' in missing
'x' in none
not 'a' in 'abc'
missing
missing.x
missing['x']
missing()
missing + 1
-missing
missing|length
missing ~ 'a'
missing is defined
missing is undefined
missing is none
missing is string
missing is iterable
missing is sequence
missing is mapping
missing is callable
missing|default('d')
missing|d
''|default('d')
''|default('d', true)
none|default('d')
none|default('d', boolean=true)
missing|tojson
missing|upper
missing|list
missing|join
missing|first
missing|last
missing|int
missing|trim
missing < 1
missing * 2
missing.a.b|default('x')
nested.a.missing
nested.a.missing.deeper
nested.a.b[1].c
nested['a']['b'][0]
nested.items
nested['items']
nested.keys
nested['']
nested.a.b[5]
nested.a.b[-1]
nested.a.b['x']
nested.a.b.0
text[0]
text[-1]
text[100]
text['x']
text[1:3]
text[::-1]
text[::2]
text[-3:]
text[:-3]
text[5:2]
text[::0]
text[10:0:-3]
unicode[6:8]
unicode[::-1]
words[1:]
words[::-1]
words[:2][0]
words[-100:100]
(1,2,3)[1:]
range(5)
range(5)[1:3]
range(5)[2]
range(10)[::2]|list
range(2, 10, 3)|list
range(5, 0, -2)|list
range(0)|list
range(1000000)
range('a')
range()
range(1, 2, 0)
number.real
number.foo
number[0]
none.x
none['x']
true.x
text.__class__
text.__class__.__mro__
text['__class__']
nested.__class__
words.append
words.append(1)
words.pop()
nested.update({'x': 1})
nested.pop('a')
nested._private
text.upper()
text.lower()
text.title()
text.capitalize()
text.swapcase
'hello world-foo it\'s'.title()
'hello world-foo it\'s (x) {y} <z>'|title
unicode|lower
unicode|upper
unicode.capitalize()
'ΑΣ ΑΣ.'|lower
'a,b,,c'.split(',')
'a,b,,c'.split(',', 1)
'a,b,,c'.rsplit(',', 1)
'a,b,,c'.rsplit(',')
'aXXbXXc'.split('XX', maxsplit=1)
'aaa'.split('aa')
'aaa'.rsplit('aa')
spaced.split()
spaced.split(none, 1)
spaced.rsplit(none, 1)
spaced.split(none, 0)
spaced.strip()
spaced.lstrip()
spaced.rstrip()
'xxhixx'.strip('x')
'xyhiyx'.lstrip('xy')
'abc'.split('')
''.split(',')
''.split()
'a\nb\r\nc\x0bd\n'.splitlines()
'a\nb\r\n'.splitlines(true)
'a-b-c'.partition('-')
'a-b-c'.rpartition('-')
'abc'.partition('-')
'abc'.rpartition('-')
'abc'.startswith('ab')
'abc'.startswith(('x', 'a'))
'abc'.startswith(['a'])
'abc'.startswith('b', 1)
'abc'.endswith('bc')
'abc'.endswith(('c', 'd'))
'abc'.endswith('')
'abcabc'.find('c')
'abcabc'.rfind('c')
'abcabc'.find('c', 3)
'abcabc'.find('z')
'abcabc'.index('b')
'abcabc'.index('z')
'abcabc'.count('abc')
'aaaa'.count('aa')
'abc'.count('')
'日本語'.find('語')
'a.b.c'.replace('.', '-')
'a.b.c'.replace('.', '-', 1)
'abc'.replace('', '-')
'abc'.replace('', '-', 2)
'aaa'|replace('a', 'b', 2)
'a1b'|replace(1, 2)
','.join(['a', 'b'])
','.join([1])
','.join('abc')
'-'.join({'a': 1, 'b': 2})
'{} {}'.format('a', 1)
'{0} {1} {0}'.format('a', 'b')
'{x} {y!r}'.format(x=1, y='q')
'{{}} {}'.format(1)
'{'.format(1)
'{} {}'.format(1)
'{} {0}'.format(1)
'%s %d %r' % ('a', 5, 'b')
'%s' % 'x'
'%s' % [1, 2]
'%s %s' % 'x'
'%d' % 'x'
'%(a)s-%(b)d' % {'a': 'x', 'b': 2}
'%s' % none
'%s' % ()
'x' % ()
'x' % 1
'%s, %s!'|format('Hello', 'World')
'%(a)s'|format(a=1)
'abc'.isdigit()
'123'.isdigit()
''.isdigit()
'ABC'.isupper()
'Abc1'.islower()
'abc1'.islower()
'prefix-x'.removeprefix('prefix-')
'x.py'.removesuffix('.py')
'abc'.nosuchmethod()
'abc'.upper(1)
nested.a.get('b')
nested.a.get('zz')
nested.a.get('zz', 5)
nested.get()
nested.a.keys()
nested.a.values()
nested.a.items()
nested.a.keys()|list
nested.a.items()|list
nested.a.items()|length
nested.a.items()[0]
nested.a.keys() is sequence
nested.a.keys() is iterable
words.index('fig')
words.index('nope')
words.count('fig')
(1, 2, 1).count(1)
nested.a.copy()
text|length
words|count
nested|length
number|length
none|length
spaced|trim
'xxaxx'|trim('x')
text|upper
text|lower
number|upper
none|upper
'foo bar'|capitalize
'FOO'|capitalize
words|first
words|last
[]|first
[]|last
'abc'|first
'abc'|last
nested|first
words|map('upper')|list
words|map('upper')|first
words|map('upper')|last
words|map('upper')
words|map('upper')|length
people|map(attribute='name')|join(', ')
people|map(attribute='admin', default='?')|list
people|map(attribute='tags.0', default='-')|list
people|map(attribute='admin')|list
people|map('nosuchfilter')|list
words|map('replace', 'p', 'P')|list
words|map('length')|sum
words|select('equalto', 'fig')|list
words|select|list
[0, 1, '', 'a']|select|list
[0, 1, '', 'a']|reject|list
[1, 2, 3, 4]|select('odd')|list
[1, 2, 3, 4]|reject('even')|list
[1, 2, 3, 4]|select('divisibleby', 2)|list
[1, 2, 3]|select('>', 1)|list
people|selectattr('admin')|map(attribute='name')|list
people|selectattr('admin', 'defined')|map(attribute='name')|list
people|rejectattr('admin')|map(attribute='name')|list
people|selectattr('age', 'equalto', 31)|list|length
people|selectattr('age', 'ge', 31)|map(attribute='name')|list
people|selectattr('name', 'in', ['bob'])|list
people|selectattr('nope', 'undefined')|list|length
people|selectattr|list
words|select('nosuchtest')|list
true if words|select('equalto', 'nope') else false
words|sort
words|sort(case_sensitive=true)
words|sort(reverse=true)
numbers|sort|first
people|sort(attribute='name')|map(attribute='name')|list
people|sort(attribute='age,name')|map(attribute='name')|list
people|sort(attribute='age', reverse=true)|map(attribute='name')|list
mixed|sort
words|unique|list
words|unique(true)|list
numbers|sum
people|sum(attribute='age')
[]|sum
numbers|sum(start=10)
['a']|sum
numbers|min
numbers|max
words|max
words|min
[]|max
people|max(attribute='age')
numbers|reverse|list
numbers|reverse
text|reverse
nested.a|dictsort
{'b': 1, 'A': 2, 'a': 3}|dictsort
{'b': 1, 'A': 2}|dictsort(true)
{'b': 1, 'A': 2}|dictsort(by='value')
{'b': 1, 'a': 2}|dictsort(reverse=true)
{'b': 1}|dictsort(by='x')
nested.a|items|list
none|items|list
missing|items|list
[1]|items|list
words|join
words|join(', ')
numbers|join('-')
people|join(', ', attribute='name')
[1, none, true]|join(' ')
'abc'|join('-')
none|join
text|list
nested|list
none|list
'42'|int
'x'|int
'x'|int(default=5)
' 42 '|int
'0x1f'|int(base=16)
'1f'|int(0, 16)
'42.9'|int
3.9|int
-3.9|int
true|int
none|int
'1_000'|int
'1e3'|int
[]|int(7)
'3.5'|float
'x'|float
'x'|float(1.5)
3|float
'inf'|float
'nan'|float
'1e400'|float
none|float
-3|abs
-3.5|abs
'a'|abs
true|abs
-1|abs
5|string
none|string
[1]|string
'a'|string
'<b>'|safe
html|e
html|escape
html|escape|escape
('<'|safe) ~ '<'
'x\ny\n\nz'|indent
'x\ny\n\nz'|indent(2)
'x\ny'|indent(2, true)
'x\n\ny'|indent(2, true, true)
'x\ny'|indent('> ')
'x\ny'|indent(width=1, first=true)
'x\n'|indent
'hello beautiful world'|truncate(11)
'hello beautiful world'|truncate(11, true)
'hello beautiful world'|truncate(15, false, '…', 0)
'short'|truncate(3)
people|attr('x')
text|attr('upper')
nested|attr('a')
quotes
[quotes]
quotes|tojson
unicode|tojson
unicode|tojson(ensure_ascii=true)
nested|tojson
nested|tojson(indent=2)
nested|tojson(indent=none)
mixed|tojson
mixed|tojson(indent=0)
mixed|tojson(indent='--')
people|tojson(indent=4)
people|tojson(separators=(',', ':'))
people|tojson(sort_keys=true)
people|tojson(indent=2, separators=(', ', ' : '))
{'b': 1, 'a': {'z': 1, 'y': 2}}|tojson(sort_keys=true)
{1: 'a', none: 'b', true: 'c', 1.5: 'd'}|tojson
{(1,2): 3}|tojson
(1, 2)|tojson
range(3)|tojson
words|map('upper')|tojson
1.0|tojson
1e16|tojson
none|tojson
true|tojson
[]|tojson(indent=2)
{}|tojson(indent=2)
html|tojson
'\x7f\x1f\u2028'|tojson
real
big
big + 1
big * big
yes
[yes, no, nothing]
mixed
unicode
[unicode]
['\u200b', '\xa0', '\x7f', '\u0301', '🎉']
['it\'s', 'say "x"', 'both \' and "']
number is number
true is number
true is integer
1.0 is float
1 is integer
'a' is string
none is none
none is not none
words is sequence
text is sequence
nested is mapping
words is mapping
text is iterable
number is iterable
none is iterable
nested.keys is callable
number is callable
range is callable
3 is odd
3 is even
6 is divisibleby 3
6 is divisibleby(4)
'a' is eq 'a'
1 is equalto 1
1 is lt 2
2 is gt 1
1 is ne 2
1 is in [1, 2]
'a' is in 'abc'
none is sameas none
true is sameas true
1 is sameas true
true is true
1 is true
false is false
'abc' is lower
'ABC' is upper
'aBc' is lower
number is not string
number is not divisibleby 2
number is defined and text is defined
number is defined or missing.x
missing is not defined and 1
missing is defined and missing.x
number is nosuchtest
number|nosuchfilter
number is divisibleby 0
1 is in missing
text is boolean
true is boolean
namespace(a=1).a
namespace({'b': 2}).b
namespace(a=1)['a']
namespace().missing
namespace(_x=1)
dict(a=1, b=2)
dict({'a': 1}, b=2)
dict([('a', 1), ('b', 2)])
dict(1)
raise_exception('stop')
range(3)|list|length
loop
self_missing
cycler is defined
namespace is defined
(1 if yes else 2) + 1
yes and no
text and words and number
[1, 2, 3][1]
[[1, 2], [3]][0][1]
{'a': 1}.a
{'a': 1}['a']
'abc'[1]
'a b'.split()[1]|upper
'a b'.split(' ')|map('upper')|join('-')
text|replace('o', '0')|upper|list|length
text|upper + '!'
text + '!'|upper
-number|abs
- 3 + 5
+ 3
not number is string
number == 7 and text == 'Hello wörld'
1 if number > 5 else 0
number > 5 and 'big' or 'small'
words|length > 3
words|length - 1
words[words|length - 1]
people[0].tags|length
people[-1].name
people[0]['name'] ~ ' ' ~ people[1].age
text.split(' ')[-1].strip('d')
(text ~ '!').upper()
((((1))))
{'a': {'b': 1}}.a.b
['a', 'b'] | join ( ', ' )
text.
text..upper
text[
(1
1 +
* 1
1 2
'unclosed
{'a'}
{'a': }
[1 2]
text|
text|upper(
text is
a = 1
$
text ! 1
1 is is 2
number is string is true
text.upper(
text|default(1, 2, 3)
text|default(nope=1)
text.replace()
text.split(1)
text.startswith(1)
text|trim(1)
lipsum is defined
"\N{BULLET}" is string
'a' ~ {'b': 'c'}
{'x': 1}|string
{'x': 1}.items()|list
{'x': 1}|items|first
(text|upper)[0]
text|upper[0]
1.5 is integer
'%i' % 3.7
'%s' % true
numbers|map('string')|join
words|join(missing)
words|join(none)
text|replace('o', missing)
"{{ x }}"
'{% raw %}'
('<'|safe) + '<'
'<' + ('<'|safe)
('<'|safe) + 1
('a<'|safe) * 2
2 * ('a<'|safe)
('%s<%d%r'|safe) % ('<', 5, '<')
('%s'|safe) % html
('%s'|safe) % [html]
('%(a)s'|safe) % {'a': html}
('<%s>'|safe)|format(html)
'<%s>'|format(html|safe)
'<%s>' % (html|e)
('{}<{x!r}'|safe).format('<', x='>')
('{}'|safe).format(html|safe)
'{}'.format(html|safe)
('<,'|safe).join(['<', 'b', 1, html|safe])
','.join([html|safe, '<'])
[html|safe, '<']|join('<'|safe)
[(html|e)[1:3], (html|e)[0], (html|e)[::-1], (html|e)[5:5]]
[(html|e)|upper, (html|e)|lower, (html|e)|title, (html|e)|capitalize, (html|e)|trim, (html|e)|string, (html|e)|reverse]
[(html|e).upper(), (html|e).title(), (html|e).strip('&'), (html|e).removeprefix('&lt;')]
[(html|e).split('&'), (html|e).splitlines(), (html|e).partition('&'), (html|e).partition('nope'), (html|e).rsplit('&', 1)]
[(html|e).replace('a', '<'), (html|e)|replace('a', '<'), 'a'.replace('a', html|safe), 'a'|replace('a', html|safe)]
[(html|e)|first, (html|e)|last, (html|e)|list]
[('<b>x y z w v u t'|safe)|truncate(10, true, '<'), 'a b c d e f g h i j k'|truncate(10, true, '<'|safe)]
[('<\n<'|safe)|indent(2), ('<'|safe)|indent('<', true)]
['<' ~ (html|safe)]
[(html|safe)|e, (html|e)|e, html|e|safe]
[('<'|safe) == '<', ('<'|safe) in ['<'], {'<': 1}[('<'|safe)]]
[('<'|safe)|default('x'), ''|default('<'|safe, true)]
nested|attr('items') is callable
(nested|attr('items'))()|list|length
{'keys': 1}|attr('keys') is callable
({'keys': 1}|attr('keys'))()|list
{'get': 1, 'x': 2}|attr('x')
({'get': 1, 'x': 2}|attr('get'))('x')
{'items': 1}|attr('values') is defined
{'upper': 1}|attr('upper') is defined
{'a': {'b': 1}}|map('attr', 'b')|list
people|map('attr', 'name')|list
nested|attr('nope')|default('d')
(text|attr('upper'))()
missing|attr('x')
['b', 'B', 'a', 'A', 'b']|sort
['b', 'B', 'a', 'A', 'b']|sort(reverse=true)
[1, true, 1.0, 0, false, 0.0]|sort
[1, true, 1.0, 0, false, 0.0]|sort(reverse=true)
[[2, 'x'], [1, 'y'], [2, 'a'], [1, 'b']]|sort(attribute=0)
[[2, 'x'], [1, 'y'], [2, 'a'], [1, 'b']]|sort(attribute='0', reverse=true)
[{'k': 1, 'v': 'c'}, {'k': 1, 'v': 'a'}, {'k': 0, 'v': 'b'}]|sort(attribute='k')|map(attribute='v')|list
[{'k': 1, 'v': 'c'}, {'k': 1, 'v': 'a'}, {'k': 0, 'v': 'b'}]|sort(attribute='k', reverse=true)|map(attribute='v')|list
[{'k': none, 'v': 1}, {'k': none, 'v': 0}]|sort(attribute='k,v')
[none, none]|sort
[{}, {}]|sort
[{}]|sort
[[none, 2], [none, 1]]|sort
{'b': 1, 'a': 1, 'c': 0}|dictsort(by='value')
{'b': 1, 'a': 1, 'c': 0}|dictsort(by='value', reverse=true)
[[1], [true], [1.0]]|sort
[{'a': 1}, {'a': 1.0}, {'a': true}]|min(attribute='a')
[{'a': 1}, {'a': 1.0}, {'a': true}]|max(attribute='a')
['a', 'A', 'b', 'B']|unique|list
['A', 'a']|min
['A', 'a']|max
""" + "\n".join(
    f"'{word}' {op} '{other}'" for word in ("a", "", "B") for op in ("==", "<", "in", "~", "and", "+") for other in ("a", "")
)

STATEMENTS = [
    "a\nb\n",
    "a\r\nb\r\n\r\n",
    "\n",
    "",
    "{% if yes %}\n  x\n{% endif %}\ny",
    "  {% if yes %}\n  x\n  {% endif %}\ny",
    "a {% if yes %}\n  x\n  {% endif %} y",
    "a {%- if yes -%}\n  x\n  {%- endif -%} y",
    "a\n  {%+ if yes %}x{%+ endif %}\ny",
    "a\n{% if yes +%}\nx\n{% endif +%}\ny",
    "a {{- number -}} b",
    "a {{ number }}\nb",
    "a {{+ number }}\nb",
    "{{ number }}\n{# comment #}\nx",
    "x {#- comment -#} y",
    "  {# indented comment #}\nx",
    "x\n  {#+ kept #}\ny",
    "x {# c +#}\ny",
    "a{#\nmulti\n#}b",
    "a {# unclosed",
    "{#-#}x",
    "{##}x",
    "{% raw %}{{ x }} {% if %}{% endraw %}",
    "a\n  {% raw %}\n  {{ x }}\n  {% endraw %}\nb",
    "a {%- raw -%}  {{ x }}  {%- endraw -%} b",
    "{% raw %}unclosed",
    "{% raw +%}x{% endraw %}",
    "{%- raw %} {% endraw +%}\nx",
    "{{ '{{' }} {{ '%}' }}",
    "{ % not a tag } {a} {{'}'}}",
    "{",
    "{%",
    "{{",
    "{{ 1",
    "{% if 1 ",
    "{% if 1 %}",
    "{% endif %}",
    "{% if 1 %}{% endfor %}",
    "{% else %}",
    "{% unknown %}",
    "{% %}",
    "{{ }}",
    "{{}}",
    "{% if %}x{% endif %}",
    "{% if yes: %}x{% endif %}",
    "{% if yes %}a{% elif no %}b{% else %}c{% endif %}",
    "{% if no %}a{% elif yes %}b{% else %}c{% endif %}",
    "{% if no %}a{% elif no %}b{% else %}c{% endif %}",
    "{% if no %}a{% endif %}b",
    "{% if words, 1 %}t{% endif %}",
    "{% for x in numbers %}{{ x }},{% endfor %}",
    "{% for x in [] %}{{ x }}{% else %}none{% endfor %}",
    "{% for x in missing %}{{ x }}{% else %}none{% endfor %}",
    "{% for x in none %}{{ x }}{% endfor %}",
    "{% for x in 5 %}{{ x }}{% endfor %}",
    "{% for c in 'añb' %}[{{ c }}]{% endfor %}",
    "{% for k in nested.a %}{{ k }}{% endfor %}",
    "{% for k, v in nested.a.items() %}{{ k }}={{ v }}{% endfor %}",
    "{% for k, v in nested.a|items %}{{ k }}={{ v }}{% endfor %}",
    "{% for (a, b) in [(1, 2), (3, 4)] %}{{ a }}{{ b }};{% endfor %}",
    "{% for a, (b, c) in [(1, (2, 3))] %}{{ a }}{{ b }}{{ c }}{% endfor %}",
    "{% for a, b in [(1, 2, 3)] %}{{ a }}{% endfor %}",
    "{% for a, b in [1] %}{{ a }}{% endfor %}",
    "{% for a, b in ['xy'] %}{{ a }}-{{ b }}{% endfor %}",
    "{% for x in numbers if x > 1 %}{{ loop.index }}/{{ loop.length }}:{{ x }}{{ ',' if not loop.last }}{% endfor %}",
    "{% for x in numbers if x > 9 %}{{ x }}{% else %}none{% endfor %}",
    "{% for x in numbers %}{{ loop.index }}{{ loop.index0 }}{{ loop.revindex }}{{ loop.revindex0 }}{{ loop.first }}{{ loop.last }}"
    "{{ loop.length }}{{ loop.depth }}{{ loop.depth0 }};{% endfor %}",
    "{% for x in numbers %}{{ loop.previtem }}<{{ x }}>{{ loop.nextitem }} {% endfor %}",
    "{% for x in numbers %}{{ loop.previtem is defined }}{{ loop.nextitem is defined }} {% endfor %}",
    "{% for x in numbers %}{{ loop.cycle('a', 'b') }}{% endfor %}",
    "{% for x in numbers %}{{ loop.nope }}{% endfor %}",
    "{% for x in numbers %}{{ loop['index'] }}{% endfor %}",
    "{% for x in numbers %}{% for y in 'ab' %}{{ loop.index }}{% endfor %}{{ loop.index }};{% endfor %}",
    "{% for x in numbers %}{% set outer = loop %}{% for y in 'ab' %}{{ outer.index }}{{ loop.index }} {% endfor %}{% endfor %}",
    "{% for x in range(10) %}{% if x == 2 %}{% continue %}{% endif %}{% if x == 5 %}{% break %}{% endif %}{{ x }}{% endfor %}",
    "{% for x in numbers %}{% break %}{% else %}none{% endfor %}done",
    "{% for x in numbers %}{% continue %}{% else %}none{% endfor %}done",
    "{% break %}",
    "{% for x in numbers %}{% endfor %}{% continue %}",
    "{% for x in numbers %}{% macro m() %}{% break %}{% endmacro %}{% endfor %}",
    "{% for x in numbers %}{{ loop(x) }}{% endfor %}",
    "{% for x in numbers %}{% set loop = 1 %}{% endfor %}",
    "{% for loop in numbers %}{% endfor %}",
    "{% for x in numbers %}{{ x }}{% endfor %}{{ x }}",
    "{% for x in numbers %}{% set y = x %}{% endfor %}{{ y }}",
    "{% set y = 0 %}{% for x in numbers %}{{ y }}{% set y = x %}{{ y }};{% endfor %}{{ y }}",
    "{% set ns = namespace(y=0) %}{% for x in numbers %}{% set ns.y = ns.y + x %}{% endfor %}{{ ns.y }}",
    "{% set ns = namespace(done=false) %}{% for x in numbers if not ns.done %}{{ x }}{% set ns.done = true %}{% endfor %}",
    "{% set ns = namespace(done=false) %}{% for x in numbers if not ns.done %}{{ x }}{{ loop.last }}{% set ns.done = true %}{% endfor %}",
    "{% set ns.y = 1 %}",
    "{% set text.y = 1 %}",
    "{% set ns = namespace() %}{% set ns._x = 1 %}",
    "{% set ns = namespace(a=1) %}{% set ns.b, ns.a = 2, 3 %}{{ ns.a }}{{ ns.b }}",
    "{% set x = 1 %}{{ x }}",
    "{% set x, y = 1, 2 %}{{ x }}{{ y }}",
    "{% set x, y = [1, 2, 3] %}",
    "{% set x = 1, 2 %}{{ x }}",
    "{% set (x, y) = (1, 2) %}{{ x }}{{ y }}",
    "{% set true = 1 %}",
    "{% set x = %}",
    "{% set x %}a{{ number }}b{% endset %}[{{ x }}]",
    "{% set x | upper | replace('A', 'z') %}a{{ number }}b{% endset %}[{{ x }}]",
    "{% set x %}{% set inner = 1 %}{% endset %}{{ inner }}",
    "{% if yes %}{% set x = 1 %}{% endif %}{{ x }}",
    "{% for x in numbers %}{% if x == 1 %}{% set y = 'one' %}{% endif %}{{ y }};{% endfor %}",
    "{% for x in numbers %}{{ text }}{% set text = x %}{{ text }};{% endfor %}{{ text }}",
    "{% for x in numbers %}{% if no %}{% set text = x %}{% endif %}{{ text }};{% endfor %}",
    "{% set text = 'changed' %}{{ text }}",
    "{% set range = 1 %}{{ range }}",
    "{% macro m(a, b=2, c=a) %}{{ a }}{{ b }}{{ c }}{% endmacro %}{{ m(1) }}|{{ m(1, c=5) }}|{{ m(a=7, b=8) }}",
    "{% macro m(a) %}{{ a }}{% endmacro %}[{{ m() }}]",
    "{% macro m(a) %}{{ a is defined }}{% endmacro %}[{{ m() }}]",
    "{% macro m(a) %}{{ a }}{% endmacro %}{{ m(1, 2) }}",
    "{% macro m(a) %}{{ a }}{% endmacro %}{{ m(b=1) }}",
    "{% macro m(a) %}{{ a }}{% endmacro %}{{ m(1, a=2) }}",
    "{% macro m() %}{{ varargs }}{{ kwargs }}{% endmacro %}{{ m(1, 2, x=3) }}",
    "{% macro m(a) %}{{ a }}{{ varargs|length }}{% endmacro %}{{ m(1, 2, 3) }}",
    "{% macro m(a, b=1, c) %}{% endmacro %}",
    "{% macro m(a, a) %}{% endmacro %}",
    "{% macro m() %}  x  {% endmacro %}[{{ m()|trim }}]",
    "{% macro m() %}{{ later }}{% endmacro %}{% set later = 5 %}{{ m() }}",
    "{% macro m() %}{% set x = 5 %}{% endmacro %}{{ m() }}{{ x }}",
    "{% macro f(n) %}{% if n > 0 %}{{ n }}{{ f(n - 1) }}{% endif %}{% endmacro %}{{ f(5) }}",
    "{% macro a() %}A{{ b() }}{% endmacro %}{% macro b() %}B{% endmacro %}{{ a() }}",
    "{% macro m() %}{{ caller() }}{% endmacro %}{% call m() %}inside {{ number }}{% endcall %}",
    "{% macro m() %}{{ caller(1, 2) }}{% endmacro %}{% call(a, b) m() %}{{ a }}-{{ b }}{% endcall %}",
    "{% macro m() %}{{ caller(1) }}{% endmacro %}{% call(a, b=9) m() %}{{ a }}-{{ b }}{% endcall %}",
    "{% macro m() %}x{% endmacro %}{% call m() %}{% endcall %}",
    "{% macro m() %}{{ caller is defined }}{% endmacro %}{{ m() }}",
    "{% macro m() %}{{ caller() }}{% endmacro %}{{ m() }}",
    "{% macro m(x) %}[{{ x }}]{{ caller() }}{% endmacro %}{% call m(1) %}y{% endcall %}",
    "{% call missing() %}x{% endcall %}",
    "{% call 1 %}x{% endcall %}",
    "{% for x in numbers %}{% macro m() %}{{ x }}{% endmacro %}{{ m() }}{% endfor %}",
    "{% macro m(x) %}{{ x }}{% endmacro %}{{ m(*[1]) }}{{ m(**{'x': 2}) }}",
    "{% macro m(x) %}{{ x }}{% endmacro %}{{ m(*5) }}",
    "{% macro m(x) %}{{ x }}{% endmacro %}{{ m(1, **{'x': 2}) }}",
    "{% filter upper %}a{{ text }}{% endfilter %}",
    "{% filter replace('a', 'b')|upper %}aaa{% endfilter %}",
    "{% filter nosuch %}aaa{% endfilter %}",
    "{% filter trim %}\n x \n{% endfilter %}|",
    "{% generation %}a{{ number }}{% endgeneration %}b",
    "{% generation %}{% set x = 1 %}{% endgeneration %}{{ x }}",
    "x\n{%- generation -%}\n  a\n{%- endgeneration -%}\nb",
    "{% for x in numbers %}{% generation %}{{ x }}{{ loop.index }}{% endgeneration %}{% endfor %}",
    "{% for x in numbers %}{% generation %}{% break %}{% endgeneration %}{% endfor %}",
    "{% with a = 1, b = 2 %}{{ a }}{{ b }}{% endwith %}{{ a }}",
    "{% with %}{% set z = 1 %}{{ z }}{% endwith %}{{ z }}",
    "{% set a = 5 %}{% with a = 1, b = a %}{{ a }}{{ b }}{% endwith %}",
    "{% print 1, 'x' %}",
    "{% if yes %}{{ 1 }}\n{% endif %}\n\n{{ 2 }}\n\n",
    "{%- for x in numbers -%}\n  {{ x }}\n{%- endfor %}\n",
    "{%- set x = 1 -%}\n\n  text\n",
    "line1\n{%- if yes %}\nline2\n{%- endif %}\nline3",
    "\u00a0 {%- if yes %}x{% endif -%} \u2003 y",
    "\t{% if yes %}x{% endif %}",
    "{{ text }}{% if yes %}\n\n{% endif %}",
    "{{ 'a' }}{# c #}\n{{ 'b' }}",
    "{% for x in numbers %}\n{{ x }}\n{% endfor %}\n",
    "{% for x in numbers %}\n    {%- if x > 1 %}\n        {{- x }}\n    {%- endif %}\n{%- endfor %}",
    "{{ people|map(attribute='name')|join(', ') }}",
    "{% set m = people|selectattr('admin')|list %}{{ m|length }}",
    "{% set it = words|map('upper') %}{{ it|list }}{{ it|list }}",
    "{% set it = words|map('upper') %}{{ it|first }}{{ it|list }}",
    "{% if words|select('equalto', 'zzz') %}truthy{% endif %}",
    "{{ (words|map('upper'))[0] is defined }}",
    "{{ words|map('upper') is iterable }}{{ words|map('upper') is sequence }}",
    "{% set x = [] %}{% set x = x + [1] %}{{ x }}",
    "{% set d = {} %}{% set d = dict(d, a=1) %}{{ d }}",
    "{{ '%s' }}{{ \"'\" }}",
    "{% set content = text %}{% if 'w' in content %}{{ content.split('w')[-1] }}{% endif %}",
    "{% set ns = namespace(items=[]) %}{% for x in numbers %}{% set ns.items = ns.items + [x * 2] %}{% endfor %}{{ ns.items }}",
    "{{ {'a': 1}.items() }}",
    "{{ loop }}",
    "{% if loop is defined %}x{% endif %}y",
    "{% set x = 'a' if yes else 'b' %}{{ x }}",
    "{% set x = ('a' if no else 'b') + 'c' %}{{ x }}",
    "{{ 'a' 'b' ~ 'c' }}",
    "{{ ''.join(words) }}",
    "{{ people[0].name.upper()[0] }}",
    "{{ namespace(a=1) is mapping }}",
    "{% set ns = namespace(a={'b': 1}) %}{{ ns.a.b }}{{ ns.a['b'] }}{{ ns['a'].b }}",
    "{% set ns = namespace(a=1) %}{{ ns.zzz is defined }}{{ ns.a is defined }}",
    "{{ raise_exception('a ' ~ number) }}",
    "{% if no %}{{ raise_exception('never') }}{% endif %}ok",
    "{{ strftime_now('%Y-%m-%d') }} {{ strftime_now('%d %b %Y') }} {{ strftime_now('%B %d, %Y %H:%M:%S %A %j %%') }}",
    "{{ strftime_now('') }}|{{ strftime_now('x') }}",
    "{% set date = strftime_now('%Y') if strftime_now is defined else '2024' %}{{ date|length }}",
    "a{% if true %}\n\n\nb{% endif %}",
    "{% include 'x' %}",
    "{% import 'x' as y %}",
    "{% extends 'x' %}",
    "{% do x %}",
    "{{ x|nosuch }}",
    "{{ '\\u00e9\\n' }}",
    "{{ 'a\\\nb' }}",
    "{{ \"a\\\"b\" }}",
    "{{ 'a\tb\nc' }}",
    "{{ ('a', 'b')|join }}",
    "{% for m in people %}{{ m.name }}{{ '' if loop.last else ', ' }}{% endfor %}",
    "{% for i in range(words|length) %}{{ words[i] }}{{ words[i + 1] if i + 1 < words|length }}{% endfor %}",
    "{% for i in range(3) %}{% for j in range(3) %}{% if j == 1 %}{% break %}{% endif %}{{ i }}{{ j }} {% endfor %}{% endfor %}",
    "{% set x %}{% for i in numbers %}{{ i }}{% endfor %}{% endset %}{{ x|reverse }}",
    "{% for x in numbers %}{% set z %}{% break %}{% endset %}{% endfor %}after",
    "{% if 1 %}{% for x in [1] %}{% endfor %}{% endif %}{{ x is defined }}",
    "{% set a = b = 1 %}",
    "{{ [1,2,3]|last }}{{ (1,2)|first }}",
    "{{ {'a':{'b':[{'c':1}]}}.a.b[0].c }}",
    "{% macro t(x) -%}\n  {{- x -}}\n{%- endmacro -%}\n{{ t('y') }}",
    "{%- macro a(x) -%}{%- for k, v in x|dictsort -%}{{ k }}:{% if v is mapping %}{{ '{' ~ a(v) ~ '}' }}{% else %}{{ v }}{% endif %},"
    "{%- endfor -%}{%- endmacro -%}{{ a({'b': {'c': 1}, 'a': 2}) }}",
]

# What Jinja2 does and tritllm refuses, naming it: functions and generators as Python prints them, numbers beyond 64 bits, rarities.
REFUSED = {
    "[{{ nested.items }}]",
    "[{{ nested.keys }}]",
    "[{{ number.real }}]",
    "[{{ text.swapcase }}]",
    "[{{ words|map('upper') }}]",
    "[{{ numbers|reverse }}]",
    "[{{ '1e400'|float }}]",
    "[{{ text|attr('upper') }}]",
    "[{{ big * big }}]",
    '[{{ "\\N{BULLET}" is string }}]',
}
