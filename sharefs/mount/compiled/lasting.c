/* What the kernel may remember for long: the rules are in sharefs/mount/lasting.py, and so are the
 * marks.  Here it is only seen whether there is a mark, and whether somebody comes back to a file,
 * in which case Python is asked whether to make one. */

#include "engine.h"

/* 1: asked for again after a while, so Python decides whether to watch it.  -1: an exception. */
int is_due(Engine *engine, PyObject *node, int64_t lookups)
{
    PyObject *value = PyObject_GetAttr(node, names.due);
    if (value == NULL)
        return -1;
    double due = PyFloat_AsDouble(value), now = (double)now_ns() / 1e9;
    Py_DECREF(value);
    if (due == -1 && PyErr_Occurred())
        return -1;
    if (due != 0)
        return now >= due && lookups > 0;
    value = PyFloat_FromDouble(now + engine->soon);
    int result = value == NULL ? -1 : PyObject_SetAttr(node, names.due, value);
    Py_XDECREF(value);
    return result;
}

int is_watched(PyObject *node)
{
    PyObject *watch = PyObject_GetAttr(node, names.watch);
    int watched = watch == NULL ? -1 : watch != Py_None;
    Py_XDECREF(watch);
    return watched;
}

/* As Lasting._may_watch(). */
int may_be_watched(Engine *engine, PyObject *directory)
{
    PyObject *value = PyObject_GetAttr(directory, names.due);
    if (value == NULL)
        return -1;
    double due = PyFloat_AsDouble(value);
    Py_DECREF(value);
    if (due == -1 && PyErr_Occurred())
        return -1;
    return due - (double)now_ns() / 1e9 <= engine->soon;
}

/* How long a name that was just told may be remembered.  0; -1: an exception. */
int name_lasts(Engine *engine, const Slip *leave, PyObject *parent, PyObject *name, int directory,
               Timeout otherwise, Timeout *lasts)
{
    *lasts = otherwise;
    if (!(leave->acts & LEAVE_LASTS) || engine->tell == NULL || engine->tell == Py_None)
        return 0;
    PyObject *watch = PyObject_GetAttr(parent, names.watch);
    if (watch == NULL || watch == Py_None) {
        Py_XDECREF(watch);
        return watch == NULL ? -1 : 0;
    }
    PyObject *seconds = PyFloat_FromDouble((double)otherwise.seconds + otherwise.part / 1e9);
    PyObject *told = seconds == NULL
        ? NULL
        : PyObject_CallFunctionObjArgs(engine->tell, watch, name,
                                       directory ? Py_True : Py_False, seconds, NULL);
    Py_DECREF(watch);
    Py_XDECREF(seconds);
    if (told == NULL)
        return -1;
    double time = PyFloat_AsDouble(told);
    Py_DECREF(told);
    if (time == -1 && PyErr_Occurred())
        return -1;
    return timeout_from(time, lasts);
}

/* How long a node's attributes may be remembered.  0; -1: an exception. */
int attributes_last(Engine *engine, const Slip *leave, PyObject *node, const struct stat *status,
                    Timeout *lasts)
{
    *lasts = leave->attr;
    if (!(leave->acts & LEAVE_LASTS))
        return 0;
    int watched = is_watched(node);
    /* Writing takes setuid away, which the kernel would not notice. */
    if (watched <= 0 || (!S_ISDIR(status->st_mode) && status->st_mode & (S_ISUID | S_ISGID)))
        return watched < 0 ? -1 : 0;
    return timeout_from(engine->long_time, lasts);
}
