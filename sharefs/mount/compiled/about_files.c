/* OPEN to read, READ, WRITE, RELEASE. */

#include "engine.h"

#include <fcntl.h>
#include <unistd.h>

#define KEPT_FLAGS (O_ACCMODE | O_APPEND | O_DSYNC | O_SYNC) /* acting_files.KEPT_FLAGS */

/* The node's file, opened to read and found to be that very file; -1: Python is to try. */
static int open_verified(PyObject *node, PyObject *parent, PyObject *name, int flags,
                         struct stat *status)
{
    int64_t fd, own_fd;
    if (number_in(parent, names.fd, &fd) < 0 || number_in(node, names.fd, &own_fd) < 0)
        return -1;
    PyObject *octets = PyUnicode_EncodeFSDefault(name);
    if (octets == NULL)
        return -1;
    int opened = -1;
    if (fd >= 0 && own_fd < 0) {
        const char *text = PyBytes_AS_STRING(octets);
        BELOW_BEGIN
        opened = openat((int)fd, text, flags | O_NOFOLLOW | O_CLOEXEC | O_NONBLOCK | O_NOCTTY);
        if (opened >= 0 && fstat(opened, status) < 0) {
            close(opened);
            opened = -1;
        }
        BELOW_END
    }
    Py_DECREF(octets);
    if (opened >= 0 && is_same(node, status) <= 0) {
        close(opened);
        return -1;
    }
    return opened;
}

/* What the kernel may do by itself with a file opened to read; as FileOperations._how().  -1: an
 * exception. */
static int how(Engine *engine, PyObject *node, int64_t number, int fd, const struct stat *status,
               unsigned acts)
{
    int flags = acts & LEAVE_UNLOCKED ? FOPEN_NOFLUSH : 0;
    PyObject *before = PyObject_GetAttr(node, names.stamp), *now = stamp_of(status);
    PyObject *handles = PyObject_GetAttr(node, names.handles);
    int same = before == NULL || now == NULL || handles == NULL
        ? -1
        : PyObject_RichCompareBool(before, now, Py_EQ);
    int known = same < 0 ? -1 : PyObject_IsTrue(before);
    Py_ssize_t open = known < 0 ? -1 : PyObject_Size(handles);
    if (open < 0)
        flags = -1;
    else if (same)
        flags |= FOPEN_KEEP_CACHE;
    else if (!known && acts & LEAVE_BRING_ALONG && open == 1 && status->st_size > 0
             && status->st_size <= STORED) {
        /* Only while nobody else can have it open, and nothing was cached before: see there. */
        ssize_t length;
        BELOW_BEGIN
        length = pread(fd, PAGE_OF(engine), (size_t)status->st_size, 0);
        BELOW_END
        if (length == status->st_size) {
            store(engine, (uint64_t)number, PAGE_OF(engine), (size_t)length);
            flags |= FOPEN_KEEP_CACHE;
        }
    }
    if (flags >= 0 && !same && PyObject_SetAttr(node, names.stamp, now) < 0)
        flags = -1;
    Py_XDECREF(before);
    Py_XDECREF(now);
    Py_XDECREF(handles);
    return flags;
}

/* Puts a handle for the descriptor into the table.  0; or -1 with an exception, and it is closed. */
int hand_over(Engine *engine, PyObject *node, PyObject *caller, int fd, int flags,
              PyObject *created)
{
    PyObject *number = PyLong_FromLong(fd), *kept = PyLong_FromLong(flags & KEPT_FLAGS);
    PyObject *handle = NULL, *added = NULL;
    if (number != NULL && kept != NULL)
        handle = PyObject_CallFunctionObjArgs(engine->make_handle, number, node, caller, kept,
                                              created, NULL);
    if (handle != NULL)
        added = PyObject_CallOneArg(engine->add_handle, handle);
    if (added == NULL)
        close(fd);
    Py_XDECREF(number);
    Py_XDECREF(kept);
    Py_XDECREF(handle);
    Py_XDECREF(added);
    return added == NULL ? -1 : 0;
}

static Outcome open_node(Engine *engine, const Request *request, PyObject *node, PyObject *caller,
                         int flags)
{
    int64_t kind, number;
    PyObject *parent, *name;
    struct stat status;
    if (number_in(node, names.kind, &kind) < 0 || number_in(node, names.ino, &number) < 0)
        return FAILED;
    int named = kind == S_IFREG ? last_name(node, &parent, &name) : 0;
    if (named <= 0)
        return named < 0 ? FAILED : PASS;
    Outcome outcome = PASS;
    Slip *slip = slip_for(engine, parent, request->uid, LEAVE_OPEN);
    if (slip != NULL && (slip->acts & LEAVE_DOTS || PyUnicode_READ_CHAR(name, 0) != '.')) {
        unsigned acts = slip->acts;
        PyObject *room = PyObject_CallOneArg(engine->demand_room, caller);
        if (room == NULL) {
            PyErr_Clear(); /* Python will say it */
            goto end;
        }
        Py_DECREF(room);
        int fd = open_verified(node, parent, name, flags & KEPT_FLAGS, &status);
        if (fd < 0) {
            outcome = PyErr_Occurred() ? FAILED : PASS;
            goto end;
        }
        outcome = FAILED;
        if (hand_over(engine, node, caller, fd, flags, Py_False) < 0)
            goto end;
        struct fuse_open_out out = {.fh = (uint64_t)fd};
        int may = how(engine, node, number, fd, &status, acts);
        if (may < 0) { /* as if it had not been opened */
            PyObject *type, *value, *trace;
            PyErr_Fetch(&type, &value, &trace);
            PyObject *closed = PyObject_CallFunction(engine->close_handle, "i", fd);
            Py_XDECREF(closed);
            PyErr_Restore(type, value, trace);
            goto end;
        }
        out.open_flags = (uint32_t)may;
        reply(engine, request->unique, &out, sizeof out);
        outcome = DONE;
    }
end:
    Py_DECREF(parent);
    Py_DECREF(name);
    return outcome;
}

/* The Caller, as a new reference, if Python has met him. */
PyObject *caller_of(Engine *engine, const Request *request)
{
    PyObject *key = PyBytes_FromStringAndSize(request->caller, 12);
    PyObject *caller = key == NULL ? NULL : PyDict_GetItemWithError(engine->callers, key);
    Py_XDECREF(key);
    return Py_XNewRef(caller);
}

Outcome answer_open(Engine *engine, const Request *request)
{
    struct fuse_open_in in;
    if (request->size < sizeof in)
        return PASS;
    memcpy(&in, request->body, sizeof in);
    if ((in.flags & O_ACCMODE) != O_RDONLY || in.flags & O_TRUNC)
        return PASS;
    PyObject *node = node_numbered(engine, request->number);
    if (node == NULL)
        return PyErr_Occurred() ? FAILED : PASS;
    PyObject *caller = caller_of(engine, request);
    if (caller == NULL)
        return PyErr_Occurred() ? FAILED : PASS;
    Py_INCREF(node);
    Outcome outcome = open_node(engine, request, node, caller, (int)in.flags);
    Py_DECREF(node);
    Py_DECREF(caller);
    return outcome;
}

/* Whether the handle's opener may do this with the file, as a slip of its directory says.  1 or 0;
 * -1: an exception.  What is kept in memory until it is looked at (content) is Python's. */
static int handle_allows(Engine *engine, PyObject *handle, unsigned act)
{
    PyObject *content = PyObject_GetAttr(handle, names.content);
    if (content == NULL)
        return -1;
    Py_DECREF(content);
    if (content != Py_None)
        return 0;
    int created = flag_in(handle, names.created);
    if (created < 0)
        return -1;
    if (created && act == LEAVE_OPEN)
        return 1; /* who made it with this very open(2) may read what he wrote */
    if (created && act == LEAVE_WRITE)
        act = LEAVE_FINISH;
    PyObject *node = PyObject_GetAttr(handle, names.node), *caller, *parent, *name;
    if (node == NULL)
        return -1;
    int64_t uid;
    int allowed = last_name(node, &parent, &name);
    Py_DECREF(node);
    if (allowed <= 0)
        return allowed;
    caller = PyObject_GetAttr(handle, names.caller);
    if (caller == NULL || number_in(caller, names.uid, &uid) < 0)
        allowed = -1;
    else {
        Slip *slip = slip_for(engine, parent, uid, act);
        allowed = slip != NULL
            && (slip->acts & LEAVE_DOTS || PyUnicode_READ_CHAR(name, 0) != '.');
    }
    Py_XDECREF(caller);
    Py_DECREF(parent);
    Py_DECREF(name);
    return allowed;
}

Outcome answer_read(Engine *engine, const Request *request)
{
    struct fuse_read_in in;
    if (request->size < sizeof in)
        return PASS;
    memcpy(&in, request->body, sizeof in);
    if (in.size > MAX_PAGES || in.offset > INT64_MAX)
        return PASS;
    PyObject *handle = handle_numbered(engine, in.fh);
    int allowed = handle == NULL ? 0 : handle_allows(engine, handle, LEAVE_OPEN);
    if (PyErr_Occurred())
        return FAILED;
    if (!allowed)
        return PASS;
    ssize_t length;
    BELOW_BEGIN
    length = pread((int)in.fh, PAGE_OF(engine), in.size, (off_t)in.offset);
    BELOW_END
    if (length < 0)
        return PASS;
    reply_page(engine, request->unique, (size_t)length);
    return DONE;
}

/* Everything is written, or nothing was (0), or there is an error (an errno). */
static int write_all(int fd, const char *octets, size_t size, off_t offset)
{
    size_t done = 0;
    while (done < size) {
        ssize_t written = pwrite(fd, octets + done, size - done, offset + (off_t)done);
        if (written < 0 && errno == EINTR)
            continue;
        if (written <= 0)
            return written < 0 ? errno : EIO;
        done += (size_t)written;
    }
    return 0;
}

Outcome answer_write(Engine *engine, const Request *request)
{
    struct fuse_write_in in;
    if (request->size < sizeof in || !engine->drops_set_id)
        return PASS;
    memcpy(&in, request->body, sizeof in);
    if (in.size > request->size - sizeof in || in.offset > (uint64_t)INT64_MAX - in.size)
        return PASS;
    PyObject *handle = handle_numbered(engine, in.fh);
    int allowed = handle == NULL ? 0 : handle_allows(engine, handle, LEAVE_WRITE);
    if (PyErr_Occurred())
        return FAILED;
    if (!allowed)
        return PASS;
    int error = 0, set_id = 0;
    BELOW_BEGIN
    struct stat status;
    if (in.write_flags & FUSE_WRITE_KILL_SUIDGID)
        set_id = fstat((int)in.fh, &status) < 0 || status.st_mode & (S_ISUID | S_ISGID);
    if (!set_id)
        error = write_all((int)in.fh, request->body + sizeof in, in.size, (off_t)in.offset);
    BELOW_END
    if (set_id)
        return PASS; /* taking them away is Python's */
    if (error)
        refuse(engine, request->unique, error);
    else {
        struct fuse_write_out out = {.size = in.size};
        reply(engine, request->unique, &out, sizeof out);
    }
    return DONE;
}

static int stamp_after_writing(PyObject *handle, int fd)
{
    int64_t flags;
    if (number_in(handle, names.flags, &flags) < 0)
        return -1;
    if ((flags & O_ACCMODE) == O_RDONLY)
        return 0;
    struct stat status;
    PyObject *node = PyObject_GetAttr(handle, names.node);
    PyObject *stamp = NULL;
    if (node != NULL && fstat(fd, &status) == 0)
        stamp = stamp_of(&status);
    int result = stamp == NULL ? -1 : PyObject_SetAttr(node, names.stamp, stamp);
    Py_XDECREF(node);
    Py_XDECREF(stamp);
    return result < 0 && PyErr_Occurred() ? -1 : 0;
}

Outcome answer_release(Engine *engine, const Request *request)
{
    struct fuse_release_in in;
    if (request->size < sizeof in)
        return PASS;
    memcpy(&in, request->body, sizeof in);
    PyObject *handle = handle_numbered(engine, in.fh);
    if (handle == NULL)
        return PyErr_Occurred() ? FAILED : PASS;
    Py_INCREF(handle);
    int result = stamp_after_writing(handle, (int)in.fh);
    Py_DECREF(handle);
    if (result < 0)
        return FAILED;
    PyObject *closed =
        PyObject_CallFunction(engine->close_handle, "K", (unsigned long long)in.fh);
    if (closed == NULL) { /* nobody hears of it, and it is closed */
        if (!PyErr_ExceptionMatches(PyExc_OSError))
            return FAILED;
        PyErr_Clear();
        refuse(engine, request->unique, EIO);
        return DONE;
    }
    Py_DECREF(closed);
    reply(engine, request->unique, NULL, 0);
    return DONE;
}
