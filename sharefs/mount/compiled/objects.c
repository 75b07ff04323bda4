/* Nodes and handles are Python's objects; here their attributes are read and written. */

#include "engine.h"

#include <time.h>

struct Names names;

int names_start(void)
{
    struct { PyObject **where; const char *text; } all[] = {
        {&names.fd, "fd"}, {&names.ino, "ino"}, {&names.lookups, "lookups"},
        {&names.names, "names"}, {&names.name_is, "name_is"},
        {&names.name_is_gone, "name_is_gone"}, {&names.handles, "handles"},
        {&names.identity, "identity"}, {&names.kind, "kind"}, {&names.is_dir, "is_dir"},
        {&names.scope, "scope"}, {&names.stamp, "stamp"}, {&names.caller, "caller"},
        {&names.node, "node"}, {&names.flags, "flags"}, {&names.created, "created"},
        {&names.content, "content"}, {&names.uid, "uid"},
        {&names.watch, "watch"}, {&names.due, "due"},
    };
    for (size_t i = 0; i < sizeof all / sizeof *all; i++) {
        if (*all[i].where == NULL
            && (*all[i].where = PyUnicode_InternFromString(all[i].text)) == NULL)
            return -1;
    }
    return 0;
}

int64_t now_ns(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (int64_t)now.tv_sec * 1000000000 + now.tv_nsec;
}

/* 0, or -1 with an exception. */
int number_in(PyObject *object, PyObject *attribute, int64_t *number)
{
    PyObject *value = PyObject_GetAttr(object, attribute);
    if (value == NULL)
        return -1;
    *number = PyLong_AsLongLong(value);
    Py_DECREF(value);
    return *number == -1 && PyErr_Occurred() ? -1 : 0;
}

/* 1 or 0, or -1 with an exception. */
int flag_in(PyObject *object, PyObject *attribute)
{
    PyObject *value = PyObject_GetAttr(object, attribute);
    if (value == NULL)
        return -1;
    int truth = PyObject_IsTrue(value);
    Py_DECREF(value);
    return truth;
}

/* The kernel is told of a node once more (by 1), or forgets it so often (by less than 0). */
int raise_lookups(PyObject *node, int64_t by, int64_t *now)
{
    if (number_in(node, names.lookups, now) < 0)
        return -1;
    *now += by;
    PyObject *value = PyLong_FromLongLong(*now);
    if (value == NULL)
        return -1;
    int result = PyObject_SetAttr(node, names.lookups, value);
    Py_DECREF(value);
    return result;
}

/* Borrowed from a dict of numbers; NULL without an exception if there is none. */
static PyObject *numbered(PyObject *dict, uint64_t number)
{
    PyObject *key = PyLong_FromUnsignedLongLong(number);
    if (key == NULL)
        return NULL;
    PyObject *found = PyDict_GetItemWithError(dict, key);
    Py_DECREF(key);
    return found;
}

PyObject *node_numbered(Engine *engine, uint64_t number)
{
    return numbered(engine->nodes, number);
}

PyObject *handle_numbered(Engine *engine, uint64_t number)
{
    return numbered(engine->handles, number);
}

/* Whether stat(2) tells of this very file: device, inode and kind.  -1: an exception. */
int is_same(PyObject *node, const struct stat *status)
{
    int64_t kind;
    if (number_in(node, names.kind, &kind) < 0)
        return -1;
    PyObject *identity = PyObject_GetAttr(node, names.identity);
    if (identity == NULL)
        return -1;
    if (!PyTuple_Check(identity) || PyTuple_GET_SIZE(identity) != 2) {
        Py_DECREF(identity);
        PyErr_SetString(PyExc_TypeError, "an identity is a device and an inode");
        return -1;
    }
    unsigned long long device = PyLong_AsUnsignedLongLongMask(PyTuple_GET_ITEM(identity, 0));
    unsigned long long inode = PyLong_AsUnsignedLongLongMask(PyTuple_GET_ITEM(identity, 1));
    Py_DECREF(identity);
    if (PyErr_Occurred())
        return -1;
    return device == status->st_dev && inode == status->st_ino
        && kind == (int64_t)(status->st_mode & S_IFMT);
}

/* The name under which a node was seen last.  1: both are new references; 0: it has none. */
int last_name(PyObject *node, PyObject **parent, PyObject **name)
{
    PyObject *known = PyObject_GetAttr(node, names.names);
    if (known == NULL)
        return -1;
    int result = -1;
    Py_ssize_t count = PyTuple_Check(known) ? PyTuple_GET_SIZE(known) : -1;
    PyObject *last = count > 0 ? PyTuple_GET_ITEM(known, count - 1) : NULL;
    if (count == 0)
        result = 0;
    else if (last != NULL && PyTuple_Check(last) && PyTuple_GET_SIZE(last) == 2
             && PyUnicode_Check(PyTuple_GET_ITEM(last, 1))) {
        *parent = Py_NewRef(PyTuple_GET_ITEM(last, 0));
        *name = Py_NewRef(PyTuple_GET_ITEM(last, 1));
        result = 1;
    } else
        PyErr_SetString(PyExc_TypeError, "a node's names are pairs");
    Py_DECREF(known);
    return result;
}

/* From now on this is a node's only name. */
static int name_is_only(PyObject *node, PyObject *parent, PyObject *name)
{
    PyObject *key = PyTuple_Pack(2, parent, name);
    PyObject *only = key == NULL ? NULL : PyTuple_Pack(1, key);
    int result = only == NULL ? -1 : PyObject_SetAttr(node, names.names, only);
    Py_XDECREF(key);
    Py_XDECREF(only);
    return result;
}

/* Remember that a node was seen under this name last. */
static int name_is(PyObject *node, PyObject *parent, PyObject *name)
{
    PyObject *last_parent, *last;
    int result = last_name(node, &last_parent, &last);
    if (result < 0)
        return -1;
    if (result) {
        int same = parent == last_parent ? PyUnicode_Compare(last, name) == 0 : 0;
        Py_DECREF(last_parent);
        Py_DECREF(last);
        if (same)
            return 0;
        PyObject *done = PyObject_CallMethodObjArgs(node, names.name_is, parent, name, NULL);
        Py_XDECREF(done);
        return done == NULL ? -1 : 0;
    }
    return name_is_only(node, parent, name);
}

/* Whether it has this name, and no other.  -1: an exception. */
static int has_only(PyObject *node, PyObject *parent, PyObject *name)
{
    PyObject *known = PyObject_GetAttr(node, names.names), *last_parent, *last;
    Py_ssize_t count = known == NULL ? -1 : PyObject_Size(known);
    Py_XDECREF(known);
    int result = count < 0 ? -1 : count == 1 ? last_name(node, &last_parent, &last) : 0;
    if (result <= 0)
        return result;
    result = last_parent == parent && PyUnicode_Compare(last, name) == 0;
    Py_DECREF(last_parent);
    Py_DECREF(last);
    return PyErr_Occurred() ? -1 : result;
}

/* As Node.name_is_gone() for the old one, and then Node.name_is().  0; -1: an exception. */
int name_moves(PyObject *node, PyObject *old_parent, const char *old, PyObject *new_parent,
               const char *new)
{
    PyObject *before = PyUnicode_DecodeFSDefault(old), *after = PyUnicode_DecodeFSDefault(new);
    int result =
        before == NULL || after == NULL ? -1 : has_only(node, old_parent, before);
    if (result > 0)
        result = name_is_only(node, new_parent, after);
    else if (result == 0) {
        PyObject *gone = PyObject_CallMethodObjArgs(node, names.name_is_gone, old_parent, before,
                                                    NULL);
        result = gone == NULL ? -1 : name_is(node, new_parent, after);
        Py_XDECREF(gone);
    }
    Py_XDECREF(before);
    Py_XDECREF(after);
    return result;
}

/* A number for a file that the kernel is not told of yet, as NodeTable._number() gives it where
 * nothing is odd; NULL without an exception: Python is to find one. */
static PyObject *number_for(Engine *engine, PyObject *scope, const struct stat *status)
{
    PyObject *key = Py_BuildValue("(OK)", scope, (unsigned long long)status->st_dev);
    PyObject *slot = key == NULL ? NULL : PyDict_GetItemWithError(engine->slots, key);
    Py_XDECREF(key);
    if (slot == NULL)
        return NULL;
    unsigned long long high = PyLong_AsUnsignedLongLong(slot);
    if (PyErr_Occurred() || status->st_ino <= 1 || status->st_ino >> SLOT_SHIFT)
        return NULL;
    PyObject *number = PyLong_FromUnsignedLongLong(high << SLOT_SHIFT | status->st_ino);
    if (number != NULL && PyDict_Contains(engine->nodes, number) != 0)
        Py_CLEAR(number);
    return number;
}

static PyObject *new_node(Engine *engine, PyObject *scope, PyObject *identity, PyObject *key,
                          const struct stat *status)
{
    PyObject *number = S_ISREG(status->st_mode) ? number_for(engine, scope, status) : NULL;
    if (number == NULL) {
        if (PyErr_Occurred())
            return NULL;
        PyObject *kind = PyLong_FromLong(status->st_mode & S_IFMT);
        PyObject *node = kind == NULL
            ? NULL
            : PyObject_CallFunctionObjArgs(engine->node_at, scope, identity, kind, NULL);
        Py_XDECREF(kind);
        return node;
    }
    PyObject *words[] = {number, identity, scope, Py_False};
    PyObject *node = PyObject_Vectorcall(engine->make_node, words, 4, NULL);
    Py_DECREF(number);
    if (node != NULL && PyDict_SetItem(engine->by_identity, key, node) < 0)
        Py_CLEAR(node);
    return node;
}

/* The node of what stat(2) found, if there is one: a new reference, or NULL. */
PyObject *node_known(Engine *engine, PyObject *parent, const struct stat *status)
{
    int64_t kind;
    PyObject *scope = PyObject_GetAttr(parent, names.scope);
    PyObject *key = scope == NULL
        ? NULL
        : Py_BuildValue("(O(KK))", scope, (unsigned long long)status->st_dev,
                        (unsigned long long)status->st_ino);
    PyObject *node =
        key == NULL ? NULL : Py_XNewRef(PyDict_GetItemWithError(engine->by_identity, key));
    Py_XDECREF(scope);
    Py_XDECREF(key);
    if (node != NULL
        && (number_in(node, names.kind, &kind) < 0
            || kind != (int64_t)(status->st_mode & S_IFMT)))
        Py_CLEAR(node);
    return node;
}

/* The node of what was found under a name: a new reference.  As NodeTable.node_at(). */
PyObject *node_seen(Engine *engine, PyObject *parent, PyObject *name, const struct stat *status)
{
    PyObject *node = NULL, *key = NULL;
    PyObject *scope = PyObject_GetAttr(parent, names.scope);
    PyObject *identity = Py_BuildValue(
        "(KK)", (unsigned long long)status->st_dev, (unsigned long long)status->st_ino);
    if (scope != NULL && identity != NULL)
        key = PyTuple_Pack(2, scope, identity);
    if (key != NULL) {
        int64_t kind;
        node = Py_XNewRef(PyDict_GetItemWithError(engine->by_identity, key));
        if (node != NULL && number_in(node, names.kind, &kind) < 0)
            Py_CLEAR(node);
        else if (node != NULL && kind != (int64_t)(status->st_mode & S_IFMT))
            Py_CLEAR(node); /* its number is another file's by now */
        if (node == NULL && !PyErr_Occurred())
            node = new_node(engine, scope, identity, key, status);
    }
    Py_XDECREF(scope);
    Py_XDECREF(identity);
    Py_XDECREF(key);
    if (node != NULL && name_is(node, parent, name) < 0)
        Py_CLEAR(node);
    return node;
}

/* As tree.stamp_of(): inode, size, times of modification and change in nanoseconds. */
PyObject *stamp_of(const struct stat *status)
{
    long long modified = (long long)status->st_mtim.tv_sec * 1000000000 + status->st_mtim.tv_nsec;
    long long changed = (long long)status->st_ctim.tv_sec * 1000000000 + status->st_ctim.tv_nsec;
    return Py_BuildValue("(KLLL)", (unsigned long long)status->st_ino, (long long)status->st_size,
                         modified, changed);
}
