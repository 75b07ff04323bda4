/* LOOKUP, GETATTR, FORGET. */

#include "engine.h"

#include <fcntl.h>

/* A name as it stands at the end of a request: one component and its zero.  0: not like that. */
size_t name_length(const char *octets, size_t size)
{
    if (size < 2 || size > MAX_NAME + 1)
        return 0;
    size_t length = strnlen(octets, size);
    if (length != size - 1 || memchr(octets, '/', length) != NULL)
        return 0;
    if (octets[0] == '.' && (length == 1 || (length == 2 && octets[1] == '.')))
        return 0;
    return length;
}

/* The kernel is told of a node once more, by its number.  0; -1: an exception. */
int count_lookup(Engine *engine, PyObject *node, int64_t *number)
{
    int64_t lookups;
    PyObject *key = PyObject_GetAttr(node, names.ino);
    if (key == NULL)
        return -1;
    int result = -1;
    *number = PyLong_AsLongLong(key);
    if (!PyErr_Occurred() && raise_lookups(node, 1, &lookups) == 0
        && (lookups > 1 || PyDict_SetItem(engine->nodes, key, node) == 0))
        result = 0;
    Py_DECREF(key);
    return result;
}

/* The answer is a node's entry. */
static Outcome tell(Engine *engine, const Request *request, PyObject *node,
                    const struct stat *status, Timeout name, Timeout attr, unsigned hidden)
{
    int64_t number;
    if (count_lookup(engine, node, &number) < 0)
        return FAILED;
    struct fuse_entry_out entry;
    fill_entry(&entry, (uint64_t)number, status, name, attr, hidden);
    reply(engine, request->unique, &entry, sizeof entry);
    return DONE;
}

/* The answer is what was found under a name. */
Outcome answer_entry(Engine *engine, const Request *request, PyObject *parent, const char *name,
                     const struct stat *status, const Slip *leave)
{
    Timeout attr;
    PyObject *text = PyUnicode_DecodeFSDefault(name);
    PyObject *node = text == NULL ? NULL : node_seen(engine, parent, text, status);
    Outcome outcome = node == NULL || attributes_last(engine, leave, node, status, &attr) < 0
        ? FAILED
        : tell(engine, request, node, status, leave->entry, attr, leave->hidden);
    Py_XDECREF(text);
    Py_XDECREF(node);
    return outcome;
}

/* Whether somebody comes back to what could be watched, and is not.  -1: an exception. */
static int is_worth_watching(Engine *engine, const Slip *leave, PyObject *parent, PyObject *node)
{
    int64_t lookups;
    if (!(leave->acts & LEAVE_LASTS))
        return 0;
    int watched = is_watched(node);
    if (watched > 0 && parent != NULL)
        watched = is_watched(parent);
    if (watched != 0)
        return watched < 0 ? -1 : 0;
    if (number_in(node, names.lookups, &lookups) < 0)
        return -1;
    return is_due(engine, node, lookups);
}

/* LOOKUP that found something: as Lasting.found(). */
static Outcome found(Engine *engine, const Request *request, PyObject *parent,
                     const struct stat *status, const Slip *leave)
{
    Timeout entry, attr;
    Outcome outcome = FAILED;
    PyObject *text = PyUnicode_DecodeFSDefault(request->body);
    PyObject *node = text == NULL ? NULL : node_seen(engine, parent, text, status);
    int due = node == NULL ? -1 : is_worth_watching(engine, leave, parent, node);
    if (due > 0)
        outcome = PASS;
    else if (due == 0 && attributes_last(engine, leave, node, status, &attr) == 0
             && name_lasts(engine, leave, parent, text, S_ISDIR(status->st_mode), leave->entry,
                           &entry) == 0)
        outcome = tell(engine, request, node, status, entry, attr, leave->hidden);
    Py_XDECREF(text);
    Py_XDECREF(node);
    return outcome;
}

/* LOOKUP that found nothing: as Lasting.missing(). */
static Outcome missing(Engine *engine, const Request *request, PyObject *parent,
                       const Slip *leave)
{
    Timeout none = {0, 0}, lasts = {0, 0};
    if (leave->acts & LEAVE_LASTS) {
        int watched = is_watched(parent);
        if (watched == 0 && missed_before(engine, parent, request->body, request->size - 1)
            && (watched = may_be_watched(engine, parent)) > 0)
            return PASS; /* who asks again may be told for longer */
        PyObject *text = watched < 0 ? NULL : PyUnicode_DecodeFSDefault(request->body);
        int result = text == NULL ? -1 : name_lasts(engine, leave, parent, text, 0, none, &lasts);
        Py_XDECREF(text);
        if (result < 0)
            return FAILED;
    }
    if (lasts.seconds || lasts.part) {
        struct fuse_entry_out nothing;
        memset(&nothing, 0, sizeof nothing);
        nothing.entry_valid = lasts.seconds;
        nothing.entry_valid_nsec = lasts.part;
        reply(engine, request->unique, &nothing, sizeof nothing);
    } else
        refuse(engine, request->unique, ENOENT);
    return DONE;
}

static Outcome lookup_known(Engine *engine, const Request *request, const Known *known)
{
    int64_t fd;
    struct stat status;
    int result;
    if (number_in(known->node, names.fd, &fd) < 0)
        return FAILED;
    if (fd < 0)
        return PASS;
    PyObject *node = Py_NewRef(known->node);
    Timeout entry = known->entry, attr = known->attr;
    unsigned hidden = known->hidden;
    BELOW_BEGIN
    result = fstat((int)fd, &status);
    BELOW_END
    Outcome outcome =
        result < 0 ? PASS : tell(engine, request, node, &status, entry, attr, hidden);
    Py_DECREF(node);
    return outcome;
}

Outcome answer_lookup(Engine *engine, const Request *request)
{
    size_t length = name_length(request->body, request->size);
    PyObject *parent = length ? node_numbered(engine, request->number) : NULL;
    if (parent == NULL)
        return PyErr_Occurred() ? FAILED : PASS;
    Slip *slip = slip_for(engine, parent, request->uid, LEAVE_SEE);
    if (slip == NULL) {
        Known *known = known_for(engine, parent, request->uid, request->body, length);
        return known == NULL ? PASS : lookup_known(engine, request, known);
    }
    if (!is_plain(slip, request->body, length))
        return PASS;
    Slip leave = *slip; /* another one may take its place as soon as Python runs */
    int64_t fd;
    if (number_in(parent, names.fd, &fd) < 0)
        return FAILED;
    if (fd < 0)
        return PASS;
    Py_INCREF(parent);
    struct stat status;
    int result, error;
    BELOW_BEGIN
    result = fstatat((int)fd, request->body, &status, AT_SYMLINK_NOFOLLOW);
    error = errno;
    BELOW_END
    Outcome outcome = PASS;
    if (result < 0) {
        if (error == ENOENT)
            outcome = missing(engine, request, parent, &leave);
        else { /* asking once more might wait once more, or be told something else */
            refuse(engine, request->unique, error);
            outcome = DONE;
        }
    } else if (leave.acts & LEAVE_ANY_KIND || S_ISREG(status.st_mode)) {
        outcome = found(engine, request, parent, &status, &leave);
    }
    Py_DECREF(parent);
    return outcome;
}

/* The answer is what stat(2) said of a node. */
Outcome answer_attributes(Engine *engine, const Request *request, PyObject *node,
                          const struct stat *status, const Slip *leave)
{
    int64_t number;
    Timeout attr;
    if (number_in(node, names.ino, &number) < 0
        || attributes_last(engine, leave, node, status, &attr) < 0)
        return FAILED;
    struct fuse_attr_out out;
    memset(&out, 0, sizeof out);
    out.attr_valid = attr.seconds;
    out.attr_valid_nsec = attr.part;
    fill_attr(&out.attr, (uint64_t)number, status, leave->hidden);
    reply(engine, request->unique, &out, sizeof out);
    return DONE;
}

static Outcome getattr_directory(Engine *engine, const Request *request, PyObject *node)
{
    Slip *slip = slip_for(engine, node, request->uid, LEAVE_ITSELF);
    int64_t fd;
    if (slip == NULL)
        return PASS;
    Slip leave = *slip;
    if (number_in(node, names.fd, &fd) < 0)
        return FAILED;
    struct stat status;
    int result = -1;
    if (fd >= 0) {
        BELOW_BEGIN
        result = fstat((int)fd, &status);
        BELOW_END
    }
    if (result < 0)
        return PASS;
    int due = is_worth_watching(engine, &leave, NULL, node);
    if (due != 0)
        return due > 0 ? PASS : FAILED;
    return answer_attributes(engine, request, node, &status, &leave);
}

static Outcome getattr_file(Engine *engine, const Request *request, PyObject *node)
{
    PyObject *parent, *name, *octets = NULL;
    Outcome outcome = FAILED;
    int named = last_name(node, &parent, &name);
    if (named <= 0)
        return named < 0 ? FAILED : PASS;
    Slip *slip = slip_for(engine, parent, request->uid, LEAVE_SEE);
    if (slip == NULL) {
        outcome = PASS;
        goto end;
    }
    Slip leave = *slip;
    int64_t fd, own_fd;
    if (number_in(parent, names.fd, &fd) < 0 || number_in(node, names.fd, &own_fd) < 0
        || (octets = PyUnicode_EncodeFSDefault(name)) == NULL)
        goto end;
    const char *text = PyBytes_AS_STRING(octets);
    outcome = PASS;
    if (fd < 0 || own_fd >= 0 || !is_plain(&leave, text, (size_t)PyBytes_GET_SIZE(octets)))
        goto end;
    struct stat status;
    int result;
    BELOW_BEGIN
    result = fstatat((int)fd, text, &status, AT_SYMLINK_NOFOLLOW);
    BELOW_END
    if (result < 0 || !(leave.acts & LEAVE_ANY_KIND || S_ISREG(status.st_mode)))
        goto end;
    int same = is_same(node, &status);
    int due = same > 0 ? is_worth_watching(engine, &leave, NULL, node) : 0;
    if (same < 0 || due < 0)
        outcome = FAILED;
    else if (same && !due)
        outcome = answer_attributes(engine, request, node, &status, &leave);
end:
    Py_XDECREF(octets);
    Py_DECREF(parent);
    Py_DECREF(name);
    return outcome;
}

Outcome answer_getattr(Engine *engine, const Request *request)
{
    PyObject *node = node_numbered(engine, request->number);
    if (node == NULL)
        return PyErr_Occurred() ? FAILED : PASS;
    Py_INCREF(node);
    int directory = flag_in(node, names.is_dir);
    Outcome outcome = directory < 0 ? FAILED
        : directory                 ? getattr_directory(engine, request, node)
                                    : getattr_file(engine, request, node);
    Py_DECREF(node);
    return outcome;
}

static Outcome forget(Engine *engine, uint64_t number, uint64_t count)
{
    int64_t lookups;
    if (count > INT32_MAX)
        return PASS;
    PyObject *node = node_numbered(engine, number);
    if (node == NULL)
        return PyErr_Occurred() ? FAILED : DONE;
    if (number_in(node, names.lookups, &lookups) < 0)
        return FAILED;
    if (number != FUSE_ROOT_ID && lookups > (int64_t)count)
        return raise_lookups(node, -(int64_t)count, &lookups) < 0 ? FAILED : DONE;
    PyObject *gone = PyObject_CallFunction(
        engine->forget, "KK", (unsigned long long)number, (unsigned long long)count);
    if (gone == NULL)
        return FAILED;
    if (gone != Py_None) {
        PyObject *dropped = PyObject_CallOneArg(engine->drop, gone);
        Py_XDECREF(dropped);
        if (dropped == NULL) {
            Py_DECREF(gone);
            return FAILED;
        }
    }
    Py_DECREF(gone);
    return DONE;
}

Outcome answer_forget(Engine *engine, const Request *request)
{
    struct fuse_forget_in in;
    if (request->size < sizeof in)
        return PASS;
    memcpy(&in, request->body, sizeof in);
    return forget(engine, request->number, in.nlookup);
}

Outcome answer_batch_forget(Engine *engine, const Request *request)
{
    struct fuse_batch_forget_in in;
    struct fuse_forget_one one;
    if (request->size < sizeof in)
        return PASS;
    memcpy(&in, request->body, sizeof in);
    if (in.count > (request->size - sizeof in) / sizeof one)
        return PASS;
    for (uint32_t i = 0; i < in.count; i++) {
        memcpy(&one, request->body + sizeof in + i * sizeof one, sizeof one);
        if (one.nlookup > INT32_MAX)
            continue; /* no kernel says so */
        if (forget(engine, one.nodeid, one.nlookup) == FAILED) /* nothing is forgotten twice */
            PyErr_WriteUnraisable((PyObject *)engine);
    }
    return DONE;
}
